"""
The hub beside well-known peers: the same machine, the same load client, round by round in turn.

    figures     medians, ranges, ratios, targets, the table; pure
    plots       bars as SVG; pure
    programs    cores, processes, what they use; the store's server and the load client (`wsload.c`)
    hubs        the hub's side: a node that takes events in, a node that is measured, its conversations and supervisors
    others      the peers: how each is got, started and spoken to (`uws.js`, `socketio.js`, `nchan.conf`)
    measure     the questions P1 to P4, and growth
"""

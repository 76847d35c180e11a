"""
The words that tests are written in.

    processes, engines   real hubs and stores, Sentinels, a Cluster
    store, shown         words to a real store, past the hub; what a hub shows to an operator
    network, proxy       machines with cables of their own; a proxy that loses, delays and cuts
    balancer, clock      a load balancer; a wall clock that a test sets
    tokens               tokens as an identity provider would make them
    socket               one client socket that records, checks and expects frames
    view                 rows of a subscription, kept up to date
    centre               one organization on a hub: platform, people, conversations
    talk, silence        customers who go on talking, and screens that must show it; lines that go silent
    judge                what was recorded, against the promises
    plants, planted      bugs to be put into a hub, and how it is started with one
    linear               is there an order in which these operations could have happened?
    fake_store           the store in memory
    fixtures             the pytest fixtures over all of that
"""

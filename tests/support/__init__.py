"""
The words that tests are written in.

    processes       a real hub, a real store, a relay between them that can be cut
    tokens          tokens as an identity provider would make them
    socket          one client socket that records, checks and expects frames
    view            rows of a subscription, kept up to date
    centre          one organization on a hub: platform, people, conversations
    fixtures        the pytest fixtures over all of that
"""

"""
The core in a made-up world: one thread, virtual time, every chance drawn from one seed.

    clockwork   an event loop whose time is made; processes on it that stand still or die
    store       the model store: the laws of `hub.service.ports`, replicas that lag, lines to it that lose and delay
    node        a hub node of real services, real following and real watches over such a line
    people      supervisors, agents, a customer and a platform, who ask again where they get no answer
    judge       what must hold, looked at with every write, every delivery and at the end
    histories   what people asked and were told, as histories for `tests.support.linear`
    world       the network between them and the story of one seed

`python -m tests.simulation SEED --trace` tells one seed's story.
"""

/*
 * Monitor, takeover and a failover that forgets: two supervisors on two hubs, agents, a platform, one conversation.
 *
 * The store is one record (S); its replica (R) is as old as it likes, and may be made the store at any moment. A
 * command is what a hub does: load and decide in one step, commit in another if the versions still stand. Between any
 * two steps anything may happen, any number of times: a hub that takes no further step was killed, one that takes it
 * late stood still, an answer may get lost, the command is asked again. A lease runs or is over by the store's clock,
 * which may be set back, so nothing here relies on time (failover.pml is about what does).
 *
 * Random tags never come again. All that matters of one is where it is equal to another, so each step ends by renaming
 * them (`settle`): 1 is the store's, 2 the replica's where that is another one. What neither holds can't become equal
 * to anything again, and is forgotten. So the states are finite, although commands and failovers are not counted.
 *
 * Each switch (README.md has the table) takes one thing out, and makes Spin find a run that breaks a promise. ONE_SIDE
 * makes it smaller: nobody monitors at the side of agent 3, so that their leaving ends no monitor.
 */

#ifdef BARE_NUMBERS
#define BARE_VERSIONS
#define BARE_MONITOR_IDS
#define BARE_OWNERS
#endif

#define VER     0   /* version of the conversation, by its last commit */
#define MV      1   /* version of the monitor */
#define MON     2   /* monitor_id; 0: nobody monitors */
#define HOLDER  3   /* supervisor who monitors: 1, 2 */
#define AT3     4   /* at the side of agent 3 */
#define OWNER   5   /* 1, 2: supervisors; 3, 4: agents; 0: nobody */
#define PART    6   /* the owner's participant_id: AGENT3, AGENT4 (the platform's), or a tag of ours */
#define EPOCH   7   /* owner_epoch: a plain number */
#define PID     8   /* the prepared takeover: takeover_id, 0: none; */
#define PMON    9   /* under which monitor, */
#define PEPOCH 10   /* from which owner */
#define SAID   11   /* how often the agent's message is in the transcript */
#define KNOWN  12   /* its id is remembered */
#ifdef BARE_MONITOR_IDS
#define MSEQ   13   /* the last monitor_id given out */
#define FIELDS 14
#else
#define FIELDS 13
#endif

#ifndef EPOCHS
#define EPOCHS 3    /* the owner changes until owner_epoch is this, in each history */
#endif

#define NEW    255  /* a tag just made */
#define AGENT3 101
#define AGENT4 102

/* What a hub has decided and not committed yet: */
#define NOTHING 0
#define START   1
#define START3  2   /* at the side of agent 3 */
#define PREPARE 3
#define CONFIRM 4
#define END     5   /* stop, or somebody's release */
#define EXPIRE  6
#define LEAVE   7   /* agent 3 leaves */
#define SAY     8
#define HALF    9   /* SPLIT_COMMIT only */

byte S[FIELDS];
byte R[FIELDS];
bit over;           /* by the store's clock the lease is over */

/* What each hub has decided, and on what. Hub 0 has no supervisor: it sweeps, and takes the platform's events in. */
byte cmd[3];
byte ver[3], mv[3];             /* the versions */
byte owner[3];                  /* the owner, */
byte part[3], epoch[3];         /* their participant_id and owner_epoch */
bit lapsed[3];                  /* it ends a monitor because the lease was over */

byte mine[3];                   /* monitor_id that the hub believes in, without an end */
byte tko[3], shown[3];          /* takeover_id that the person was answered, and the owner they were shown */
byte entry_mon, entry_holder;   /* some entry on its way to the screens: its monitor_id, and who held it in truth */

/* The promises, as Spin names the one that is broken; none is ever set. */
bit I1_shown_to_its_holder, I1_one_monitor, I1_ended_when_over;
bit I2_owner_answers, I2_held_since_prepared, I2_owner_that_was_shown, I2_never_without_owner;
bit I3_once;
byte n;                         /* counts, and is 0 between steps */

/* ---- Fences ---- */

#ifdef NO_FENCE
#define STANDS(X, j) true
#else
#ifdef NO_MONITOR_FENCE
#define STANDS(X, j) (X[VER] == ver[j])
#else
#define STANDS(X, j) (X[VER] == ver[j] && X[MV] == mv[j])
#endif
#endif

#ifdef STALE_TAKEOVER
#define STILL_MONITORING (S[VER] == ver[i])
#else
#define STILL_MONITORING STANDS(S, i)
#endif

#ifdef NO_OWNER_FENCE
#define OWNS(X, p, e) true
#else
#define OWNS(X, p, e) (X[PART] == p && X[EPOCH] == e)
#endif

#ifdef NO_ENTRY_FENCE
#define THEIRS(j) (mine[j] != 0 && entry_mon != 0)
#else
#define THEIRS(j) (mine[j] != 0 && entry_mon == mine[j])
#endif

#ifdef EARLY_EXPIRY
#define LOOKED_AGAIN true
#else
#define LOOKED_AGAIN (!lapsed[i] || over)
#endif

#ifdef NO_OWNER_CHECK
#define SAME_OWNER true
#else
#define SAME_OWNER (S[PEPOCH] == S[EPOCH])
#endif

#ifdef NO_MONITOR_CHECK
#define SAME_MONITOR true
#else
#define SAME_MONITOR (S[PMON] == S[MON])
#endif

#ifdef NO_TAKEOVER_ID
#define MY_TAKEOVER(j) (S[PID] != 0 && tko[j] != 0)
#else
#define MY_TAKEOVER(j) (S[PID] != 0 && S[PID] == tko[j])
#endif

#ifdef NO_REPEAT_CHECK
#define SAID_BEFORE false
#else
#define SAID_BEFORE S[KNOWN]
#endif

/* ---- Tags: random, or (in what is to go wrong) counted ---- */

#ifdef BARE_VERSIONS
#define NEXT(field) S[field] + 1
#define ROOM (S[VER] < 6 && S[MV] < 6)
#else
#define NEXT(field) NEW
#define ROOM true
#endif

#ifdef BARE_OWNERS
#define NEW_PART 1
#define OURS(x) false
#else
#define NEW_PART NEW
#define OURS(x) (x != 0 && x != AGENT3 && x != AGENT4)
#endif

#define NAME(x, field) x = (x == S[field] -> 1 : (x == R[field] -> 2 : 3))

inline forget(j) { cmd[j] = NOTHING; ver[j] = 0; mv[j] = 0; owner[j] = 0; part[j] = 0; epoch[j] = 0; lapsed[j] = 0 }

inline settle_hub(j) {
    /* what would be refused now and after any failover: as if it were decided again */
#if !defined(NO_FENCE) && !defined(BARE_VERSIONS) && !defined(STALE_TAKEOVER)
    if :: cmd[j] != NOTHING && cmd[j] < SAY && !STANDS(S, j) && !STANDS(R, j) -> forget(j) :: else fi;
#endif
#if !defined(NO_OWNER_FENCE) && !defined(BARE_OWNERS)
    if :: cmd[j] == SAY && !OWNS(S, part[j], epoch[j]) && !OWNS(R, part[j], epoch[j]) -> forget(j) :: else fi;
#endif
#ifndef BARE_VERSIONS
    if :: ver[j] != 0 -> NAME(ver[j], VER); NAME(mv[j], MV) :: else fi;
#endif
    if :: OURS(part[j]) -> NAME(part[j], PART) :: else fi;
#ifndef NO_TAKEOVER_ID
    if :: tko[j] != 0 && tko[j] != S[PID] && tko[j] != R[PID] -> tko[j] = 0; shown[j] = 0 :: else fi;
#endif
    if :: tko[j] != 0 -> NAME(tko[j], PID) :: else fi
}

inline settle_monitors() {
    /* a belief that no entry bears out now, nor can; an entry that nobody believes to be theirs */
    n = 1;
    do
    :: n < 3 ->
        if
        :: mine[n] != 0 && mine[n] != S[MON] && mine[n] != R[MON] && mine[n] != entry_mon -> mine[n] = 0
        :: else
        fi;
        if :: mine[n] != 0 -> NAME(mine[n], MON) :: else fi;
        n++
    :: else -> break
    od;
    if :: entry_mon != 0 -> NAME(entry_mon, MON) :: else fi;
    if :: entry_mon == 3 && mine[1] != 3 && mine[2] != 3 -> entry_mon = 0; entry_holder = 0 :: else fi;
    if :: S[PMON] != 0 -> NAME(S[PMON], MON) :: else fi;
    if :: R[PMON] != 0 -> NAME(R[PMON], MON) :: else fi;
    if :: R[MON] != 0 -> NAME(R[MON], MON) :: else fi;
    if :: S[MON] != 0 -> S[MON] = 1 :: else fi
}

/* Ends each step: the promises that hold at every moment, then the tags' names. */
inline settle() {
    d_step {
        assert(I1_shown_to_its_holder || ((!THEIRS(1) || entry_holder == 1) && (!THEIRS(2) || entry_holder == 2)));
        assert(I2_never_without_owner || S[OWNER] != 0);
        if :: S[MON] == 0 -> over = 0 :: else fi;
        settle_hub(0); settle_hub(1); settle_hub(2);
#ifndef BARE_VERSIONS
        NAME(R[VER], VER); S[VER] = 1; NAME(R[MV], MV); S[MV] = 1;
#endif
        if :: OURS(R[PART]) -> NAME(R[PART], PART) :: else fi;
        if :: OURS(S[PART]) -> S[PART] = 1 :: else fi;
        if :: R[PID] != 0 -> NAME(R[PID], PID) :: else fi;
        if :: S[PID] != 0 -> S[PID] = 1 :: else fi;
#if !defined(BARE_MONITOR_IDS) && !defined(NO_ENTRY_FENCE)
        settle_monitors();
#endif
        n = 0
    }
}

/* ---- Hubs ---- */

inline decided(what) {
    cmd[i] = what; ver[i] = S[VER]; mv[i] = S[MV]; owner[i] = S[OWNER]; part[i] = S[PART]; epoch[i] = S[EPOCH];
    lapsed[i] = (S[MON] != 0 && (what == START || what == START3 || what == EXPIRE))
}

inline no_takeover() { S[PID] = 0; S[PMON] = 0; S[PEPOCH] = 0 }

inline no_monitor() {
    S[MON] = 0; S[HOLDER] = 0; S[AT3] = 0;
#ifndef NO_MONITOR_CHECK
    no_takeover()
#endif
}

inline commit_start() {
    if
    :: STANDS(S, i) && LOOKED_AGAIN ->
        assert(I1_one_monitor || S[MON] == 0 || lapsed[i]);
        assert(I1_ended_when_over || !lapsed[i] || over);
        no_monitor();
#ifdef BARE_MONITOR_IDS
        S[MSEQ] = S[MSEQ] + 1; S[MON] = S[MSEQ];
#else
        S[MON] = NEW;
#endif
        S[HOLDER] = i; S[AT3] = (cmd[i] == START3); S[MV] = NEXT(MV);
        over = 0;
        if
        :: mine[i] = S[MON]
        :: skip                         /* the answer got lost */
        fi
    :: else                             /* refused: decide again */
    fi;
    forget(i)
}

inline commit_end() {
    if
    :: STANDS(S, i) -> no_monitor(); S[MV] = NEXT(MV)
    :: else
    fi;
    forget(i)
}

inline commit_prepare() {
    if
    :: STANDS(S, i) ->
        S[PID] = NEW; S[PMON] = S[MON]; S[PEPOCH] = epoch[i]; S[MV] = NEXT(MV);
        if
        :: tko[i] = S[PID]; shown[i] = owner[i]
        :: skip                         /* the answer got lost */
        fi
    :: else
    fi;
    forget(i)
}

inline take_over() {
    S[OWNER] = i; S[PART] = NEW_PART; S[EPOCH] = epoch[i] + 1; S[VER] = NEXT(VER);
    no_monitor(); no_takeover(); S[MV] = NEXT(MV)
}

inline commit_confirm() {
    if
    :: STILL_MONITORING ->
        assert(I2_held_since_prepared || (S[HOLDER] == i && S[PMON] == S[MON]));
        assert(I2_owner_that_was_shown || S[OWNER] == shown[i]);
#ifdef SPLIT_COMMIT
        S[OWNER] = 0; S[PART] = 0; S[VER] = NEXT(VER); cmd[i] = HALF
    :: else -> forget(i)
    fi
#else
        take_over()
    :: else
    fi;
    forget(i)
#endif
}

inline append() {
    if
    :: OWNS(S, part[i], epoch[i]) -> assert(I2_owner_answers || S[OWNER] == i)
    :: else                             /* stale_owner */
    fi;
    forget(i)
}

#define IDLE (cmd[i] == NOTHING && ROOM)
#define HELD_BY_ME (S[HOLDER] == i && !over)
#define FREE (S[MON] == 0 || over)

proctype Supervisor(byte i) {
    do
    :: atomic {
        if
        :: IDLE && FREE && S[OWNER] != i -> decided(START)              /* monitor.start: ends what has lapsed */
#ifndef ONE_SIDE
        :: IDLE && FREE && S[OWNER] == 3 -> decided(START3)             /* the same, at the side of agent 3 */
#endif
        :: HELD_BY_ME && mine[i] != S[MON] -> mine[i] = S[MON]          /* the same again: joined */
        :: IDLE && S[MON] != 0 -> decided(END)                          /* monitor.stop, or release of another's */
        :: IDLE && HELD_BY_ME -> decided(PREPARE)                       /* takeover.prepare: voids an earlier one */
        :: IDLE && HELD_BY_ME && MY_TAKEOVER(i) && SAME_MONITOR && SAME_OWNER && S[EPOCH] < EPOCHS -> decided(CONFIRM)
        :: IDLE && S[OWNER] == i -> decided(SAY)                        /* message.send */
        :: cmd[i] == START || cmd[i] == START3 -> commit_start()
        :: cmd[i] == END -> commit_end()
        :: cmd[i] == PREPARE -> commit_prepare()
        :: cmd[i] == CONFIRM -> commit_confirm()
        :: cmd[i] == SAY -> append()
#ifdef SPLIT_COMMIT
        :: cmd[i] == HALF -> take_over(); forget(i)
#endif
        fi;
        settle() }
    od
}

/* A hub without a supervisor: it ends what has lapsed, and takes in that agent 3 leaves. */
proctype Hub() {
    byte i = 0;
    do
    :: atomic {
        if
        :: IDLE && S[MON] != 0 && over -> decided(EXPIRE)
        :: IDLE && S[OWNER] == 3 && S[EPOCH] < EPOCHS -> decided(LEAVE)
        :: cmd[i] == EXPIRE && STANDS(S, i) && LOOKED_AGAIN ->
            assert(I1_ended_when_over || over);
            no_monitor(); S[MV] = NEXT(MV); forget(i)
        :: cmd[i] == LEAVE && STANDS(S, i) ->
            S[OWNER] = 4; S[PART] = AGENT4; S[EPOCH] = epoch[i] + 1; S[VER] = NEXT(VER);
#ifndef ONE_SIDE
            if
            :: S[AT3] -> no_monitor(); S[MV] = NEXT(MV)
            :: else
            fi;
#endif
            forget(i)
        :: cmd[i] != NOTHING && !(STANDS(S, i) && LOOKED_AGAIN) -> forget(i)    /* refused, or not due */
        fi;
        settle() }
    od
}

/* Agent 3 says one thing, again and again. Its hub's own look before is left out: the script's fence alone must do. */
proctype Agent() {
    do
    :: atomic {
        !SAID_BEFORE && OWNS(S, AGENT3, 1) ->
        assert(I2_owner_answers || S[OWNER] == 3);
        S[SAID] = S[SAID] + 1; S[KNOWN] = 1;
        assert(I3_once || S[SAID] <= 1);
        settle() }
    od
}

/* ---- The world ---- */

#ifdef BARE_MONITOR_IDS
#define COPY_SEQ(to, from) ; to[MSEQ] = from[MSEQ]
#else
#define COPY_SEQ(to, from)
#endif
#define COPY(to, from) \
    to[VER] = from[VER]; to[MV] = from[MV]; to[MON] = from[MON]; to[HOLDER] = from[HOLDER]; to[AT3] = from[AT3]; \
    to[OWNER] = from[OWNER]; to[PART] = from[PART]; to[EPOCH] = from[EPOCH]; to[PID] = from[PID]; \
    to[PMON] = from[PMON]; to[PEPOCH] = from[PEPOCH]; to[SAID] = from[SAID]; to[KNOWN] = from[KNOWN] COPY_SEQ(to, from)

proctype World() {
    do
    :: atomic {
        if
        :: true -> d_step { COPY(R, S) }                               /* the replica follows, when it likes */
        :: true -> d_step { COPY(S, R) }                               /* it is made the store; the rest is forgotten */
        :: S[MON] != 0 -> over = 1 - over                              /* time passes, or the clock is set back */
        :: S[MON] != 0 -> entry_mon = S[MON]; entry_holder = S[HOLDER] /* the customer writes */
        fi;
        settle() }
    od
}

init {
    atomic {
        S[VER] = 1; S[MV] = 1; S[OWNER] = 3; S[PART] = AGENT3; S[EPOCH] = 1;
        d_step { COPY(R, S) };
        run Supervisor(1); run Supervisor(2); run Hub(); run Agent(); run World()
    }
}

/*
 * Two stores at once: a primary is cut off, the Sentinels make another one of its replica, and a hub may go on speaking
 * to the former one.
 *
 * No fence in a store helps here: each store is right by itself, and the promoted one may be as old as it likes, so its
 * lease may be over at once. What helps is asking. A hub believes in its primary for BELIEF ticks from when it asked all
 * Sentinels and a majority named it; in another one than before, or the first one, only BELIEF ticks after it heard of it.
 *
 * The majority's answer is one read of `named` between question and answer: two majorities share a Sentinel, which has
 * named the old primary before the new one. Time passes in ticks, without end; all clocks go at one pace. Questions and
 * answers get lost, a hub stands still for as long as it likes, starts again, or never hears of the promotion.
 *
 * Each switch (README.md has the table) takes one thing out and makes Spin find two who are shown data at the same
 * time.
 */

#ifndef BELIEF
#define BELIEF 3
#endif

bit named;          /* whom most Sentinels name: store 0, the first primary, or 1, its replica */
byte mon[2];        /* each store's monitor: supervisor 1 or 2; 0: none */

/* Two hubs, by their supervisors 1 and 2. */
bit on[3];          /* the store it speaks to */
bit fresh[3];       /* has just started: takes whomever it is told */
byte believes[3];   /* for so many ticks */
byte doubts[3];     /* for so many ticks, whatever it is told */
byte asked[3];      /* one more than the ticks since it asked; 0: it hasn't */
bit heard[3];       /* the majority has answered, and the answer is on its way */
bit said[3];        /* with this one */

bit I1_one_is_shown;        /* the promise, as Spin names it when it is broken; never set */

#ifdef NO_BELIEF
#define BELIEVES(h) true
#else
#define BELIEVES(h) (believes[h] != 0 && doubts[h] == 0)
#endif

/* What is written now at the hub's store is shown to its supervisor, and no other one is let in there. */
#define SHOWN(h) (mon[on[h]] == h && BELIEVES(h))

/* Ends each step. */
inline look() {
    d_step {
        assert(I1_one_is_shown || !SHOWN(1) || !SHOWN(2))
    }
}

#define rest(h) asked[h] = 0; heard[h] = 0; said[h] = 0

inline answered(h) {
#ifdef FROM_THE_ANSWER
    believes[h] = BELIEF;
#else
    believes[h] = (asked[h] <= BELIEF -> BELIEF + 1 - asked[h] : 0);
#endif
    if
#ifndef NO_DOUBT_AT_START
    :: fresh[h] -> doubts[h] = BELIEF
#endif
#ifndef NO_DOUBT
    :: !fresh[h] && said[h] != on[h] -> doubts[h] = BELIEF
#endif
    :: else
    fi;
    on[h] = said[h];
    fresh[h] = 0;
    rest(h)
}

proctype Hub(byte h) {
    do
    :: atomic {
        if
        :: asked[h] == 0 -> asked[h] = 1
        :: asked[h] != 0 && !heard[h] -> heard[h] = 1; said[h] = named
#ifdef ONE_SENTINEL
        :: asked[h] != 0 && !heard[h] -> heard[h] = 1; said[h] = 0      /* one that is cut off, too */
#endif
        :: heard[h] && (said[h] >= on[h] || fresh[h]) -> answered(h)
        :: asked[h] != 0 -> rest(h)                                     /* question or answer gets lost */
        :: mon[on[h]] != h && BELIEVES(h) -> mon[on[h]] = h             /* monitor.start; who had it before is over */
        :: mon[on[h]] == h -> mon[on[h]] = 0                            /* monitor.stop, or its lease is over */
        :: true ->                                                      /* starts again */
            fresh[h] = 1; believes[h] = 0; doubts[h] = 0; rest(h)
        fi;
        look() }
    od
}

#define LESS(x) x = (x != 0 -> x - 1 : 0)
#define LATER(h) asked[h] = (asked[h] == 0 || asked[h] > BELIEF -> asked[h] : asked[h] + 1)

proctype World() {
    do
    :: atomic {
        if
        :: !named -> named = 1                      /* with whatever the replica has: */
            if :: mon[1] = mon[0] :: mon[1] = 0 :: mon[1] = 1 :: mon[1] = 2 fi
        :: true -> LESS(believes[1]); LESS(believes[2]); LESS(doubts[1]); LESS(doubts[2]); LATER(1); LATER(2)
        fi;
        look() }
    od
}

init { atomic { fresh[1] = 1; fresh[2] = 1; run Hub(1); run Hub(2); run World() } }

"""A wall clock that a test sets: a few lines of C before libc's own, for hub and store alike; steady clocks are left alone."""

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset_s;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("TEST_CLOCK"), O_RDONLY);
    offset_s = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    close(file);
}

int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(which, now);
    if (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE) now->tv_sec += *offset_s;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (result) *result = exact.tv_sec;
    return exact.tv_sec;
}
"""


class Clock:
    """The clock of whatever process is started with `environment`; `step` sets it, also while the process runs."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            assert os.environ.get("CI") != "true", "a C compiler is missing: apt-get install gcc"
            pytest.skip("stepping clocks needs a C compiler: apt-get install gcc")
        folder.mkdir(parents=True, exist_ok=True)
        self._offset = folder / "offset"
        self._library = folder / "clock.so"
        self.step(0)
        source = folder / "clock.c"
        source.write_text(_SOURCE)
        line = [compiler, "-shared", "-fPIC", "-O1", "-o", str(self._library), str(source), "-ldl"]
        subprocess.run(line, check=True, timeout=60)

    @property
    def environment(self) -> dict[str, str]:
        """Variables for the process."""
        return {"LD_PRELOAD": str(self._library), "TEST_CLOCK": str(self._offset)}

    def step(self, seconds: int) -> None:
        """Set it that far ahead of the machine's (negative: behind), at once."""
        with self._offset.open("r+b" if self._offset.exists() else "wb") as file:
            file.write(struct.pack("=q", seconds))

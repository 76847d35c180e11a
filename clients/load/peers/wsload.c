// The load client: N WebSockets (ws://, loopback only) in one thread on epoll, with a minimal frame parser.
//
// Each socket is walked through a script of "expect this, then send that" (hello, subscribe). Then events are published
// through one TCP connection (Redis, or HTTP whose answers are read and thrown away), made from byte templates, and what
// arrives on the N sockets is counted by its marker:
//
//   MARK 1uuuuuuuuuuuuuuu    MARK is `--mark`; the 16 digits are 10^15 + CLOCK_MONOTONIC in microseconds
//
// Placeholders: IIIIIII (the socket's number; in an event the target's), @TOKEN@ (this socket's line of `--tokens`),
// NNNNNNNNNN (serial number of the event), ################ (the marker's digits), LLLLLLL in `--publish-head`, which
// goes before the events that are due at the same time: how many bytes they have.
//
// Driven by lines on standard input, each answered by one line of JSON; pings are answered all the time:
//
//   closed W T   at most W events under way, for T seconds (W = 1: nothing can be put together)
//   open R T     R events a second for T seconds; then what is under way may arrive
//   idle T       nothing but pings
//   quit         close every socket
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STEPS_MAX 8
#define TEMPLATES_MAX 4
#define DIGITS 16
#define TOGETHER_MAX 100  // events published in one go
#define EVENT_MAX 4096
#define BUCKETS 2048
#define MARK_BASE 1000000000000000ull
#define SECOND 1000000000ull
#define OPENING_S 60  // for all sockets together
#define STALLED_S 3   // nothing arrived for so long although something is under way
#define QUIET_MS 400  // nothing arrived for so long: an open loop's rest isn't coming any more

typedef struct { unsigned char *data; size_t size; } bytes;
typedef enum { NEW, SHAKING, SCRIPT, READY, DEAD } state;
typedef struct { int fd; state state; int step; unsigned char *rest; size_t size, room; } conn;
typedef struct { bytes expect, send; } step;

static int sockets = 1, at_once = 64, port, publish_port, targets = 1, one_each, header_size;
static const char *path = "/", *mark = "T@";
static size_t mark_size;
static bytes header, reply_to, reply_with, publish_head, templates[TEMPLATES_MAX];
static step steps[STEPS_MAX];
static int steps_n, templates_n;
static char **tokens;

static conn *conns;
static int ep, opened, ready, dead, publisher = -1;
static char a_publisher, standard_input;  // whose addresses say what an epoll event is about
static uint64_t delivered, bytes_in, refused, serial, histogram[BUCKETS], longest_us;
static int measuring, unanswered;  // the latter: the last request to a `--publish-head`
static unsigned char buffer[1 << 21];

// --- small things -----------------------------------------------------------------------------------------------

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * SECOND + t.tv_nsec;
}

static void fail(const char *what) {
  fprintf(stderr, "wsload: %s\n", what);
  exit(3);
}

static double cpu_s(void) {
  struct rusage r;
  getrusage(RUSAGE_SELF, &r);
  return r.ru_utime.tv_sec + r.ru_stime.tv_sec + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

// A histogram with 32 buckets for each doubling: 3 % wide.
static int bucket_of(uint64_t us) {
  if (us < 64) return (int)us;
  int e = 63 - __builtin_clzll(us), i = (e - 5) * 32 + (int)((us >> (e - 5)) & 31) + 32;
  return i < BUCKETS ? i : BUCKETS - 1;
}

static uint64_t value_of(int i) {
  if (i < 64) return i;
  i -= 32;
  return (uint64_t)(32 + (i & 31)) << (i / 32);
}

static uint64_t percentile(double share) {
  uint64_t below = 0, wanted = (uint64_t)(share * delivered);
  for (int i = 0; i < BUCKETS; i++)
    if ((below += histogram[i]) > wanted) return value_of(i);
  return 0;
}

static bytes unhex(const char *text, size_t length) {
  bytes b = {malloc(length / 2 + 1), length / 2};
  for (size_t i = 0; i < b.size; i++) {
    unsigned v;
    if (sscanf(text + 2 * i, "%2x", &v) != 1) fail("an argument isn't hexadecimal");
    b.data[i] = v;
  }
  b.data[b.size] = 0;
  return b;
}

static void pair(const char *text, bytes *one, bytes *other) {
  const char *colon = strchr(text, ':');
  if (!colon) fail("an argument has no colon");
  *one = unhex(text, colon - text);
  *other = unhex(colon + 1, strlen(colon + 1));
}

static void put(unsigned char *data, size_t size, const char *placeholder, const char *value) {
  size_t n = strlen(placeholder);
  for (unsigned char *at = data; (at = memmem(at, data + size - at, placeholder, n)); at += n) memcpy(at, value, n);
}

static void put_number(unsigned char *data, size_t size, const char *placeholder, int number) {
  char digits[16];
  snprintf(digits, sizeof digits, "%07d", number);
  put(data, size, placeholder, digits);
}

static void read_tokens(const char *name) {
  FILE *file = fopen(name, "r");
  if (!file) fail("the file of tokens can't be read");
  tokens = calloc(sockets, sizeof *tokens);
  size_t room = 0;
  for (int i = 0; i < sockets; i++) {
    if (getline(&tokens[i], &room, file) < 0) fail("fewer tokens than sockets");
    tokens[i][strcspn(tokens[i], "\r\n")] = 0;
    room = 0;
  }
  fclose(file);
}

// --- one socket -------------------------------------------------------------------------------------------------

static void die(conn *c) {
  if (c->state == DEAD) return;
  ready -= c->state == READY;
  c->state = DEAD;
  dead++;
  close(c->fd);  // which takes it out of epoll, too
}

static void send_frame(conn *c, int opcode, const unsigned char *data, size_t size) {
  static unsigned char frame[65536 + 8];
  size_t head = size < 126 ? 2 : 4;
  if (size > 65535) fail("a frame to send is too long");
  frame[0] = 0x80 | opcode;
  frame[1] = 0x80 | (size < 126 ? size : 126);
  if (head == 4) frame[2] = size >> 8, frame[3] = size;
  memset(frame + head, 0, 4);  // a mask of zeros: masked as the RFC wants it, and free
  memcpy(frame + head + 4, data, size);
  if (send(c->fd, frame, head + 4 + size, MSG_NOSIGNAL) < 0 && errno != EAGAIN) die(c);
}

static void send_step(conn *c, const bytes *text) {
  static unsigned char filled[65536];
  const char *word = "@TOKEN@";
  unsigned char *at = tokens ? memmem(text->data, text->size, word, strlen(word)) : NULL;
  size_t before = at ? (size_t)(at - text->data) : text->size, size = before;
  memcpy(filled, text->data, before);
  if (at) {
    const char *token = tokens[c - conns];
    size_t n = strlen(token), after = text->size - before - strlen(word);
    if (size + n + after > sizeof filled) fail("a token is too long");
    memcpy(filled + size, token, n);
    memcpy(filled + size + n, at + strlen(word), after);
    size += n + after;
  }
  put_number(filled, size, "IIIIIII", c - conns);
  send_frame(c, 1, filled, size);
}

static void advance(conn *c) {  // through the steps that expect nothing
  while (c->step < steps_n && !steps[c->step].expect.size) send_step(c, &steps[c->step++].send);
  if (c->step >= steps_n && c->state == SCRIPT) c->state = READY, ready++;
}

static void count_marks(const unsigned char *data, size_t size, uint64_t at) {
  const unsigned char *end = data + size;
  while ((data = memmem(data, end - data, mark, mark_size))) {
    uint64_t value = 0;
    data += mark_size;
    int k = 0;
    while (k < DIGITS && data + k < end && data[k] >= '0' && data[k] <= '9') value = value * 10 + (data[k++] - '0');
    data += k;
    if (k < DIGITS || value < MARK_BASE) continue;
    uint64_t sent = value - MARK_BASE, us = at / 1000 > sent ? at / 1000 - sent : 0;
    if (us > longest_us) longest_us = us;
    histogram[bucket_of(us)]++;
    delivered++;
  }
}

static int is_ping(const unsigned char *data, size_t size) {  // alone, or one of the lines of a frame
  size_t n = reply_to.size;
  if (!n || size < n) return 0;
  if (!memcmp(data, reply_to.data, n)) return 1;
  for (const unsigned char *at = data, *end = data + size; (at = memchr(at, '\n', end - at)); at++)
    if ((size_t)(end - at) > n && !memcmp(at + 1, reply_to.data, n)) return 1;
  return 0;
}

static void on_frame(conn *c, int first, unsigned char *data, size_t size, uint64_t at) {
  int opcode = first & 15;
  if (opcode == 9) { send_frame(c, 10, data, size); return; }
  if (opcode == 8) {
    if (c->state < READY && size > 2)
      fprintf(stderr, "wsload: closed with %d %.*s\n", data[0] << 8 | data[1], (int)size - 2, data + 2);
    die(c);
    return;
  }
  if (c->state == READY && measuring) count_marks(data, size, at);
  if (is_ping(data, size)) send_frame(c, 1, reply_with.data, reply_with.size);
  if (c->state == SCRIPT && memmem(data, size, steps[c->step].expect.data, steps[c->step].expect.size)) {
    if (steps[c->step].send.size) send_step(c, &steps[c->step].send);
    c->step++;
    advance(c);
  } else if (c->state == SCRIPT && memmem(data, size, "\"error\"", 7)) {
    fprintf(stderr, "wsload: refused: %.*s\n", size < 300 ? (int)size : 300, data);
    die(c);
  }
}

static size_t parse(conn *c, unsigned char *data, size_t size, uint64_t at) {  // how much of it was whole
  size_t done = 0;
  if (c->state == SHAKING) {
    unsigned char *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end) return 0;
    if (memcmp(data, "HTTP/1.1 101", 12)) {
      fprintf(stderr, "wsload: no WebSocket: %.200s\n", data);
      die(c);
      return size;
    }
    done = end + 4 - data;
    c->state = SCRIPT;
    advance(c);
  }
  while (c->state != DEAD && size - done >= 2) {
    unsigned char *f = data + done;
    uint64_t length = f[1] & 127;
    size_t head = length < 126 ? 2 : length == 126 ? 4 : 10;
    if (size - done < head) break;
    if (head == 4) length = f[2] << 8 | f[3];
    if (head == 10) {
      length = 0;
      for (int k = 2; k < 10; k++) length = length << 8 | f[k];
    }
    if (size - done - head < length) break;
    on_frame(c, f[0], f + head, length, at);
    done += head + length;
  }
  return done;
}

static void readable(conn *c) {
  if (c->state == DEAD) return;
  memcpy(buffer, c->rest, c->size);
  ssize_t got = recv(c->fd, buffer + c->size, sizeof buffer - c->size - 1, 0);
  if (got <= 0) {
    if (got == 0 || (errno != EAGAIN && errno != EINTR)) die(c);
    return;
  }
  bytes_in += got;
  size_t size = c->size + got;
  buffer[size] = 0;
  size_t done = parse(c, buffer, size, now());
  c->size = c->state == DEAD ? 0 : size - done;
  if (c->size > c->room) {
    c->room = c->size * 2;
    if (c->room > sizeof buffer / 2 || !(c->rest = realloc(c->rest, c->room))) fail("a frame is too long");
  }
  memcpy(c->rest, buffer + done, c->size);
}

// --- connections ------------------------------------------------------------------------------------------------

static int connected(int to) {
  int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(to), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (fd < 0 || connect(fd, (void *)&address, sizeof address) < 0) {
    perror("wsload: connect");
    if (fd >= 0) close(fd);
    return -1;
  }
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}

static void watch(int fd, void *what) {
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = what};
  if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) < 0) fail("epoll");
}

static void open_next(void) {
  conn *c = &conns[opened];
  char request[4096], place[512];
  snprintf(place, sizeof place, "%s", path);
  put_number((unsigned char *)place, strlen(place), "IIIIIII", opened++);
  c->rest = malloc(c->room = 64);
  if ((c->fd = connected(port)) < 0) { c->state = DEAD; dead++; return; }
  int n = snprintf(request, sizeof request,
                   "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
                   place, port, header_size ? (char *)header.data : "");
  c->state = SHAKING;
  watch(c->fd, c);
  if (send(c->fd, request, n, MSG_NOSIGNAL) != n) die(c);
}

static void read_publisher(void) {  // a platform throws its answers away, too; but a refused event is worth knowing
  ssize_t got = recv(publisher, buffer, sizeof buffer - 1, 0);
  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
    close(publisher);  // an idle HTTP connection may be closed; the next event opens another
    publisher = -1;
    unanswered = 0;
    return;
  }
  if (got < 0) return;
  unanswered = 0;
  buffer[got] = 0;
  const char *bad[] = {"\"refused\"", "HTTP/1.1 4", "HTTP/1.1 5", "-ERR"};
  for (int i = 0; i < 4; i++)
    if (memmem(buffer, got, bad[i], strlen(bad[i])) && !refused++) fprintf(stderr, "wsload: not taken: %.600s\n", buffer);
}

static int poll_once(int ms) {  // true where a command waits on standard input
  static struct epoll_event events[1024];
  int n = epoll_wait(ep, events, 1024, ms), command = 0;
  for (int i = 0; i < n; i++) {
    void *what = events[i].data.ptr;
    if (what == &standard_input) command = 1;
    else if (what == &a_publisher) read_publisher();
    else readable(what);
  }
  return command;
}

static void sleep_until(uint64_t when) {  // or until something comes; to the microsecond, and never spinning:
  uint64_t t = now();                     // the store and the hub that takes events in share this core
  struct timespec left = {0, when > t ? (long)(when - t < SECOND ? when - t : SECOND - 1) : 0};
  struct pollfd any = {.fd = ep, .events = POLLIN};
  ppoll(&any, 1, &left, NULL);
}

static size_t write_event(unsigned char *event) {
  char digits[24];
  bytes *from = &templates[serial / targets % templates_n];
  memcpy(event, from->data, from->size);
  put_number(event, from->size, "IIIIIII", serial % targets);
  snprintf(digits, sizeof digits, "%010llu", (unsigned long long)serial++);
  put(event, from->size, "NNNNNNNNNN", digits);
  snprintf(digits, sizeof digits, "%llu", (unsigned long long)(MARK_BASE + now() / 1000));
  put(event, from->size, "################", digits);
  return from->size;
}

static uint64_t publish(uint64_t wanted) {  // that many events, or as many as go together; how many
  static unsigned char batch[TOGETHER_MAX * EVENT_MAX + EVENT_MAX];
  uint64_t count = wanted < TOGETHER_MAX ? wanted : TOGETHER_MAX;
  size_t head = publish_head.size, size = head;
  for (uint64_t i = 0; i < count; i++) size += write_event(batch + size);
  if (head) {
    memcpy(batch, publish_head.data, head);
    put_number(batch, head, "LLLLLLL", size - head);
  }
  unanswered = head > 0;
  if (publisher < 0) {
    if ((publisher = connected(publish_port)) < 0) fail("nobody takes events");
    watch(publisher, &a_publisher);
  }
  for (size_t done = 0; done < size;) {
    ssize_t sent = send(publisher, batch + done, size - done, MSG_NOSIGNAL);
    if (sent > 0) done += sent;
    else if (errno == EAGAIN) { poll_once(1); if (publisher < 0) fail("the publishing connection broke"); }
    else fail("an event can't be sent");
  }
  return count;
}

// --- commands ---------------------------------------------------------------------------------------------------

static void report(const char *command, double amount, uint64_t sent, uint64_t fan, double seconds, int stalled, double cpu) {
  printf("{\"command\":\"%s\",\"amount\":%g,\"sent\":%llu,\"delivered\":%llu,\"expected\":%llu,\"seconds\":%.4f,"
         "\"stalled\":%s,\"client_cpu_s\":%.4f,\"bytes\":%llu,\"refused\":%llu,\"p50_us\":%llu,\"p90_us\":%llu,"
         "\"p99_us\":%llu,\"max_us\":%llu,\"ready\":%d}\n",
         command, amount, (unsigned long long)sent, (unsigned long long)delivered, (unsigned long long)(sent * fan), seconds,
         stalled ? "true" : "false", cpu, (unsigned long long)bytes_in, (unsigned long long)refused,
         (unsigned long long)percentile(.5), (unsigned long long)percentile(.9), (unsigned long long)percentile(.99),
         (unsigned long long)longest_us, ready);
  fflush(stdout);
}

static void begin(void) {
  memset(histogram, 0, sizeof histogram);
  delivered = bytes_in = refused = longest_us = 0;
  measuring = 1;
}

static void rest(uint64_t wanted, uint64_t patience_ms) {  // until all arrived, or nothing for so long
  uint64_t last = delivered, since = now();
  while (delivered < wanted && now() - since < patience_ms * 1000000) {
    poll_once(5);
    if (delivered != last) last = delivered, since = now();
  }
}

static void closed_loop(uint64_t under_way, double seconds) {
  double cpu = cpu_s();
  uint64_t start = now(), end = start + (uint64_t)(seconds * 1e9), sent = 0, last = 0, since = start, t;
  uint64_t fan = one_each ? 1 : ready;
  int stalled = 0;
  while ((t = now()) < end && !stalled && fan) {
    uint64_t allowed = delivered / fan + under_way;  // whole events: the last one is under way until everybody has it
    // What becomes due while a request is under way goes together in the next one, as a platform would do it.
    while (sent < allowed && !unanswered) sent += publish(allowed - sent);
    poll_once(20);
    if (delivered != last) last = delivered, since = t;
    else stalled = t - since > STALLED_S * SECOND;
  }
  report("closed", under_way, sent, fan, (now() - start) / 1e9, stalled || !fan, cpu_s() - cpu);
  rest(sent * fan, STALLED_S * 1000);
}

static void open_loop(double rate, double seconds) {
  double cpu = cpu_s();
  uint64_t start = now(), end = start + (uint64_t)(seconds * 1e9), gap = (uint64_t)(1e9 / rate), next = start, sent = 0, t;
  uint64_t fan = one_each ? 1 : ready;
  while ((t = now()) < end) {
    if (t >= next) {
      uint64_t due = publish((t - next) / gap + 1);
      sent += due;
      next += due * gap;
      continue;
    }
    sleep_until(next < end ? next : end);
    poll_once(0);
  }
  rest(sent * fan, QUIET_MS);
  report("open", rate, sent, fan, (now() - start) / 1e9, 0, cpu_s() - cpu);
}

static void idle(double seconds) {
  double cpu = cpu_s();
  uint64_t start = now();
  while ((now() - start) / 1e9 < seconds) poll_once(50);
  report("idle", 0, 0, 0, (now() - start) / 1e9, 0, cpu_s() - cpu);
}

static int command(const char *line) {  // false for the last one
  char name[16];
  double a = 0, b = 0;
  if (sscanf(line, "%15s %lf %lf", name, &a, &b) < 1) return 1;
  if (!strcmp(name, "quit")) return 0;
  begin();
  if (!strcmp(name, "closed") && templates_n) closed_loop((uint64_t)a, b);
  else if (!strcmp(name, "open") && templates_n && a > 0) open_loop(a, b);
  else if (!strcmp(name, "idle")) idle(a);
  else fail("an unknown command");
  measuring = 0;
  return 1;
}

static void obey(void) {
  static char line[256];
  size_t size = 0;
  watch(0, &standard_input);
  for (;;) {
    if (!poll_once(1000)) continue;
    ssize_t got = read(0, line + size, sizeof line - 1 - size);
    if (got <= 0) return;
    line[size += got] = 0;
    char *end;
    while ((end = strchr(line, '\n'))) {
      *end = 0;
      if (!command(line)) return;
      size -= end + 1 - line;
      memmove(line, end + 1, size + 1);
    }
    if (size == sizeof line - 1) fail("a command is too long");
  }
}

static void open_all(void) {
  uint64_t start = now();
  double cpu = cpu_s();
  while (ready + dead < sockets && now() - start < OPENING_S * SECOND) {
    while (opened < sockets && opened - ready - dead < at_once) open_next();
    poll_once(50);
  }
  printf("{\"command\":\"opened\",\"ready\":%d,\"dead\":%d,\"seconds\":%.4f,\"client_cpu_s\":%.4f}\n", ready, dead,
         (now() - start) / 1e9, cpu_s() - cpu);
  fflush(stdout);
}

static void close_all(void) {  // with 1000, which ends a session; whoever doesn't answer in a second is dropped
  const unsigned char normal[2] = {0x03, 0xe8};
  for (int i = 0; i < opened; i++) if (conns[i].state == READY) send_frame(&conns[i], 8, normal, 2);
  for (uint64_t start = now(); dead < opened && now() - start < SECOND;) poll_once(20);
  struct linger hard = {1, 0};
  for (int i = 0; i < opened; i++) {
    if (conns[i].state == DEAD) continue;
    setsockopt(conns[i].fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    die(&conns[i]);
  }
}

static int option(const char *name, const char *value) {
  if (!strcmp(name, "--sockets")) sockets = atoi(value);
  else if (!strcmp(name, "--at-once")) at_once = atoi(value);
  else if (!strcmp(name, "--port")) port = atoi(value);
  else if (!strcmp(name, "--path")) path = value;
  else if (!strcmp(name, "--header")) header = unhex(value, strlen(value)), header_size = header.size;
  else if (!strcmp(name, "--step") && steps_n < STEPS_MAX) {
    pair(value, &steps[steps_n].expect, &steps[steps_n].send);
    steps_n++;
  }
  else if (!strcmp(name, "--reply")) pair(value, &reply_to, &reply_with);
  else if (!strcmp(name, "--mark")) mark = value;
  else if (!strcmp(name, "--tokens")) read_tokens(value);
  else if (!strcmp(name, "--publish") && templates_n < TEMPLATES_MAX) templates[templates_n++] = unhex(value, strlen(value));
  else if (!strcmp(name, "--publish-head")) publish_head = unhex(value, strlen(value));
  else if (!strcmp(name, "--publish-port")) publish_port = atoi(value);
  else if (!strcmp(name, "--targets")) targets = atoi(value);
  else if (!strcmp(name, "--one-each")) one_each = atoi(value);
  else if (!strcmp(name, "--serial")) serial = strtoull(value, NULL, 10);
  else return 0;
  return 1;
}

int main(int count, char **words) {  // `--sockets` comes before `--tokens`
  for (int i = 1; i < count; i += 2)
    if (i + 1 == count || !option(words[i], words[i + 1])) fail(words[i]);
  if (sockets < 1 || targets < 1 || at_once < 1) fail("a number must be 1 or more");
  if (publish_head.size > EVENT_MAX) fail("what stands before events is too long");
  for (int i = 0; i < templates_n; i++) if (templates[i].size > EVENT_MAX) fail("an event is too long");
  mark_size = strlen(mark);
  prctl(PR_SET_TIMERSLACK, 1);
  conns = calloc(sockets, sizeof *conns);
  ep = epoll_create1(0);
  open_all();
  obey();
  close_all();
  return 0;
}

/* load: an HTTP/1.1 load generator; one JSON object at the end says how the server did.
 *
 *   load -p PORT [-u PATH] [-b BODY_FILE] [-H 'name: value']... [-c CONNECTIONS] [-w WARM_UP_S] [-d SECONDS]
 *        [-n REQUESTS] [-r REQUESTS_PER_S] [-s STAGGER_MS] [-g GIVE_UP_MS]
 *
 * POSTs the body to 127.0.0.1, over and over, on CONNECTIONS kept-alive connections, in any dialect: it reads nothing of
 * an answer but its framing and its chunks. Closed loop: a connection asks again as soon as it has its answer. With -r
 * open loop: requests fall due at that rate whether or not a connection is free, and latency counts from when one was
 * due, so that a stalled server cannot hide its queue. Ends after SECONDS past the warm-up, or sooner after -n requests.
 * -s spreads the first requests over that time. With -g a caller waits no longer than that: it closes the connection,
 * and (open loop) a request that finds no connection free is not sent; both are counted, apart from other failures.
 * Prints "begin" and "end" around the measured window: the caller reads the server's CPU time there.
 * Chunks are counted by their '@'; the 19 digits behind one are the time it was written (see mock.c), 0 = not told.
 * Answers that end inside the window count, whenever they began: slow servers are not flattered. Linux only.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Times seen, as a histogram whose steps are at most 1/512 of the value: nothing to grow or sort while measuring */
enum { FINE = 9, STEPS = (64 - FINE) << FINE };
typedef struct {
    unsigned count[STEPS];
    long long n, max_ns;
    double sum_ns;
} Times;

static void note(Times *t, long long ns) {
    if (ns < 0) ns = 0;
    int shift = ns < (1 << FINE) ? 0 : 63 - FINE - __builtin_clzll((unsigned long long)ns);
    t->count[shift ? ((shift + 1) << FINE) + (int)((ns >> shift) - (1 << FINE)) : (int)ns]++;
    t->n++;
    t->sum_ns += (double)ns;
    if (ns > t->max_ns) t->max_ns = ns;
}

static double quantile_us(const Times *t, double q) {
    long long rank = (long long)(q * (double)t->n), seen = 0;
    for (int i = 0; i < STEPS; i++) {
        seen += t->count[i];
        if (seen <= rank) continue;
        int shift = (i >> FINE) ? (i >> FINE) - 1 : 0;
        long long low = shift ? (((long long)(i & ((1 << FINE) - 1)) | (1 << FINE)) << shift) : i;
        return ((double)low + (double)(1LL << shift) / 2) / 1e3;
    }
    return (double)t->max_ns / 1e3;
}

/* One connection and the answer it is reading. */
typedef enum { HEAD, SIZED, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER, TO_CLOSE } State;
typedef struct {
    int fd, status, head_len, line_len;
    State state;
    bool busy, closes, first_byte_seen, forgiven;
    char head[16384], line[24];
    long long left;             /* bytes of the body or of the chunk still to come */
    size_t sent;                /* of the request */
    long long asked_ns;         /* when the request was sent, or was due */
    int digits_left;            /* of the time behind an '@' */
    long long stamp_ns;
} Conn;

static Times latency, first_byte, delay;
static long long ok, failed, shed, given_up, unsent, give_up_ns, reopened, chunks, begin_ns, end_ns, t0_ns;
static int last_bad_status, poller;
static struct sockaddr_in server;
static char *request;
static size_t request_len;
static Conn **idle;             /* open loop: connections waiting for a request to fall due */
static int idle_count;
static double due_step_ns;      /* open loop: between requests; 0 = closed loop */

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static bool in_window(long long t) { return t >= begin_ns && t <= end_ns; }

static void connect_to_server(Conn *c) {
    int on = 1;
    if (c->fd >= 0) close(c->fd);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS) {
        perror("load: cannot connect");
        exit(1);
    }
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
}

/* Sends what the socket takes; an error shows at the next read. */
static void send_more(Conn *c) {
    while (c->busy && c->sent < request_len) {
        ssize_t n = send(c->fd, request + c->sent, request_len - c->sent, MSG_NOSIGNAL);
        if (n <= 0) return;
        c->sent += (size_t)n;
    }
}

static void ask(Conn *c, long long asked_ns) {
    c->state = HEAD;
    c->head_len = c->line_len = c->digits_left = 0;
    c->first_byte_seen = c->closes = c->forgiven = false;
    c->sent = 0;
    c->busy = true;
    c->asked_ns = asked_ns;
    send_more(c);
}

static void next(Conn *c, long long now) {
    c->busy = false;
    if (due_step_ns > 0) idle[idle_count++] = c; else ask(c, now);
}

static void ended(Conn *c, long long now) {
    if (c->closes) connect_to_server(c);
    if (in_window(now)) {
        if (c->status == 200) { ok++; note(&latency, now - c->asked_ns); }
        else { failed++; shed += c->status == 503; last_bad_status = c->status; }
    }
    next(c, now);
}

/* The server closed or reset. No failure where that ends the answer, nor, once, where a kept-alive connection was
 * closed just as the request went out. */
static void lost(Conn *c, long long now) {
    if (c->busy && c->state == TO_CLOSE) { c->closes = true; ended(c, now); return; }
    connect_to_server(c);
    if (!c->busy) return;
    if (c->head_len == 0 && !c->forgiven) {
        reopened++;
        ask(c, c->asked_ns);
        c->forgiven = true;
        return;
    }
    if (in_window(now)) failed++;
    next(c, now);
}

/* Callers that have waited too long leave. */
static void give_up(Conn *all, int count, long long now) {
    for (Conn *c = all; c < all + count; c++) {
        if (!c->busy || now - c->asked_ns < give_up_ns) continue;
        connect_to_server(c);
        if (in_window(now)) given_up++;
        next(c, now);
    }
}

static void body_bytes(Conn *c, const char *p, size_t n, long long now) {
    const char *end = p + n;
    if (!c->first_byte_seen) {
        c->first_byte_seen = true;
        if (in_window(now)) note(&first_byte, now - c->asked_ns);
    }
    while (p < end) {
        for (; c->digits_left && p < end; p++) {
            if (*p < '0' || *p > '9') { c->digits_left = 0; break; }
            c->stamp_ns = c->stamp_ns * 10 + (*p - '0');
            if (!--c->digits_left && c->stamp_ns && in_window(now)) note(&delay, now - c->stamp_ns);
        }
        if (p == end || !(p = memchr(p, '@', (size_t)(end - p)))) return;
        p++;
        c->digits_left = 19;
        c->stamp_ns = 0;
        if (in_window(now)) chunks++;
    }
}

static void read_head(Conn *c) {
    c->head[c->head_len] = 0;
    c->status = atoi(c->head + 9);
    c->state = TO_CLOSE;
    for (char *line = c->head; (line = strchr(line, '\n')); ) {
        line++;
        if (!strncasecmp(line, "content-length:", 15)) { c->state = SIZED; c->left = atoll(line + 15); }
        if (!strncasecmp(line, "transfer-encoding: chunked", 26)) c->state = CHUNK_SIZE;
        if (!strncasecmp(line, "connection: close", 17)) c->closes = true;
    }
}

/* One line of the chunked framing: true when it is whole, its text then in c->line. */
static bool line_done(Conn *c, char byte) {
    if (byte != '\n') {
        if (byte != '\r' && c->line_len < (int)sizeof c->line - 1) c->line[c->line_len++] = byte;
        return false;
    }
    c->line[c->line_len] = 0;
    return true;
}

/* Takes bytes as they came; true when the answer is whole. */
static bool feed(Conn *c, const char *p, size_t n, long long now) {
    const char *end = p + n;
    while (p < end) {
        if (c->state == HEAD) {
            if (c->head_len == (int)sizeof c->head - 1) { fputs("load: header too long\n", stderr); exit(1); }
            c->head[c->head_len++] = *p++;
            if (c->head_len < 4 || memcmp(c->head + c->head_len - 4, "\r\n\r\n", 4)) continue;
            read_head(c);
            if (c->state == SIZED && !c->left) return true;
        } else if (c->state == SIZED || c->state == CHUNK) {
            size_t take = (long long)(end - p) < c->left ? (size_t)(end - p) : (size_t)c->left;
            body_bytes(c, p, take, now);
            p += take;
            c->left -= (long long)take;
            if (c->left) continue;
            if (c->state == SIZED) return true;
            c->state = CHUNK_END;
        } else if (c->state == TO_CLOSE) {
            body_bytes(c, p, (size_t)(end - p), now);
            p = end;
        } else if (line_done(c, *p++)) {
            int len = c->line_len;
            c->line_len = 0;
            if (c->state == TRAILER && !len) return true;
            if (c->state == CHUNK_END) c->state = CHUNK_SIZE;
            else if (c->state == CHUNK_SIZE) {
                c->left = strtoll(c->line, NULL, 16);
                c->state = c->left ? CHUNK : TRAILER;
            }
        }
    }
    return false;
}

/* Reads what is there. A short read empties the socket, but only `to_end` sees a close that came with the last bytes:
 * the edge that told of both is not told again. */
static void readable(Conn *c, bool to_end) {
    static char buffer[256 * 1024];
    for (;;) {
        ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n <= 0) { lost(c, now_ns()); return; }
        long long now = now_ns();
        if (c->busy && feed(c, buffer, (size_t)n, now)) ended(c, now);
        if (n < (ssize_t)sizeof buffer && !to_end) return;
    }
}

static void make_request(int port, const char *path, const char *headers, const char *body_file) {
    FILE *f = fopen(body_file, "rb");
    if (!f) { perror(body_file); exit(2); }
    fseek(f, 0, SEEK_END);
    size_t size = (size_t)ftell(f), room = size + strlen(headers) + strlen(path) + 512;
    rewind(f);
    request = malloc(room);
    request_len = (size_t)snprintf(request, room, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: load/1\r\n"
        "Accept: */*\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n", path, port, headers, size);
    request_len += fread(request + request_len, 1, size, f);
    fclose(f);
}

static void report(int connections, double seconds) {
    printf("{\"connections\":%d,\"seconds\":%.3f,\"ok\":%lld,\"failed\":%lld,\"shed\":%lld,\"given_up\":%lld,\"unsent\":%lld,\"bad_status\":%d,"
           "\"reopened\":%lld,"
           "\"per_s\":%.1f,\"mean_us\":%.1f,\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,"
           "\"first_p50_us\":%.1f,\"first_p99_us\":%.1f,\"chunks_per_s\":%.0f,\"delay_p50_us\":%.1f,\"delay_p99_us\":%.1f}\n",
           connections, seconds, ok, failed, shed, given_up, unsent, last_bad_status, reopened, (double)ok / seconds,
           latency.n ? latency.sum_ns / (double)latency.n / 1e3 : 0, quantile_us(&latency, .5), quantile_us(&latency, .9),
           quantile_us(&latency, .99), (double)latency.max_ns / 1e3, quantile_us(&first_byte, .5),
           quantile_us(&first_byte, .99), (double)chunks / seconds, quantile_us(&delay, .5), quantile_us(&delay, .99));
}

static void say(const char *word) { puts(word); fflush(stdout); }

static double run(int connections, double warm_s, double seconds, long long most, double stagger_ms) {
    Conn *all = calloc((size_t)connections, sizeof *all);
    idle = calloc((size_t)connections, sizeof *idle);
    int started = 0;
    double due_count = 0;
    long long swept_ns = 0;
    bool begun = false;
    t0_ns = now_ns();
    begin_ns = t0_ns + (long long)(warm_s * 1e9);
    end_ns = begin_ns + (long long)(seconds * 1e9);
    for (long long now = t0_ns; now < end_ns && (!most || ok + failed < most); now = now_ns()) {
        if (!begun && now >= begin_ns) { begun = true; say("begin"); }
        for (; started < connections && (double)(now - t0_ns) >= stagger_ms * 1e6 * started / connections; started++) {
            all[started].fd = -1;
            connect_to_server(&all[started]);
            next(&all[started], now);
        }
        for (long long due; due_step_ns > 0 && (idle_count || give_up_ns); due_count++) {
            if ((due = t0_ns + (long long)(due_count * due_step_ns)) > now) break;
            if (idle_count) ask(idle[--idle_count], due);
            else if (in_window(now)) unsent++;
        }
        if (give_up_ns && now - swept_ns > 5000000) { give_up(all, started, now); swept_ns = now; }
        struct epoll_event got[512];
        bool something_due = started < connections || idle_count;
        struct timespec patience = {.tv_nsec = something_due ? 20000 : 1000000};
        int n = epoll_pwait2(poller, got, 512, &patience, NULL);
        for (int i = 0; i < n; i++) {
            Conn *c = got[i].data.ptr;
            if (got[i].events & EPOLLOUT) send_more(c);
            unsigned closing = got[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
            if (closing || got[i].events & EPOLLIN) readable(c, closing);
        }
    }
    double took_s = (double)(now_ns() - begin_ns) / 1e9;
    say("end");
    return took_s < seconds ? took_s : seconds;
}

int main(int argc, char **argv) {
    int port = 0, connections = 1, option;
    long long most = 0;
    double seconds = 2, warm_s = 0.2, per_s = 0, stagger_ms = 0;
    const char *path = "/v1/chat/completions", *body_file = "/dev/null";
    char headers[8192] = "";
    while ((option = getopt(argc, argv, "p:u:b:H:c:w:d:n:r:s:g:")) != -1) switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'u': path = optarg; break;
        case 'b': body_file = optarg; break;
        case 'H':
            if (strlen(headers) + strlen(optarg) + 3 > sizeof headers) { fputs("load: headers too long\n", stderr); return 2; }
            strcat(strcat(headers, optarg), "\r\n");
            break;
        case 'c': connections = atoi(optarg); break;
        case 'w': warm_s = atof(optarg); break;
        case 'd': seconds = atof(optarg); break;
        case 'n': most = atoll(optarg); break;
        case 'r': per_s = atof(optarg); break;
        case 's': stagger_ms = atof(optarg); break;
        case 'g': give_up_ns = (long long)(atof(optarg) * 1e6); break;
        default: return 2;
    }
    if (!port || connections < 1) { fputs("load: -p PORT is needed, and at least one connection\n", stderr); return 2; }
    signal(SIGPIPE, SIG_IGN);
    server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((unsigned short)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    poller = epoll_create1(0);
    due_step_ns = per_s > 0 ? 1e9 / per_s : 0;
    make_request(port, path, headers, body_file);
    double took_s = run(connections, warm_s, seconds, most, stagger_ms);
    report(connections, took_s);
    return 0;
}

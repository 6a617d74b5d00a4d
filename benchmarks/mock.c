/* mock: a provider that costs next to nothing, so that what is measured is the gateway in front of it.
 *
 *   mock PORT
 *
 * Listens on 127.0.0.1 and speaks just enough HTTP/1.1: keep-alive, pipelining, bodies with a length or in chunks.
 *   POST .../chat/completions   a chat completion of about 1 KB; with "stream":true a stream of 100 chunks and one of
 *                               usage, written at once, or one chunk every N us where the request's text has pace_us=N
 *   POST .../messages           the same text, chunks and pace in the form of Anthropic's Messages
 *   GET  .../models             a list of one model
 *   anything else               200 and "ok"
 * A paced chunk's text is '@' and 19 digits, CLOCK_MONOTONIC in ns as it was written: load.c reads its delay off that.
 * One thread, no limits on what a client may send: for measuring on one machine, never for a network. Linux only.
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

enum { CHUNKS = 100, READ_BYTES = 256 * 1024 };

typedef struct {
    char *at;
    size_t len, cap;
} Buffer;

/* A dialect: the path where it is spoken, the event of a chunk, whose text is %s, and what is answered. */
typedef struct {
    const char *path, *chunk;
    Buffer answer, burst, head, tail;
} Form;

typedef struct Conn {
    int fd;
    Buffer in, out;
    size_t sent;            /* of out */
    size_t need;            /* whole size of the request now coming in, 0 = header not yet seen whole */
    const Form *form;       /* of the paced stream now going out */
    int chunks_left;
    long long pace_ns, due_ns;
    bool waits_to_write, dead;
    struct Conn *next_paced;
} Conn;

static int poller;
static Conn *paced;         /* the connections with chunks_left, newest first */
static Buffer models;

#define CHUNK_START                                                                                               \
    "data: {\"id\":\"chatcmpl-mock00000000000000000000000001\",\"object\":\"chat.completion.chunk\","             \
    "\"created\":1760000000,\"model\":\"up-model\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_0\","
#define CHUNK_TEXT CHUNK_START "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n"
#define ROLE CHUNK_START "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n"
#define STOP CHUNK_START "\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":null}\n\n"
#define USAGE(prompt, completion, total)                                                                          \
    "\"usage\":{\"prompt_tokens\":" #prompt ",\"completion_tokens\":" #completion ",\"total_tokens\":" #total "," \
    "\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},"                                         \
    "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0}}"

#define TEXT                                                                                                      \
    "Order 4711 left the warehouse on Monday and should reach the customer within two working days. The parcel was " \
    "handed to the carrier with the rest of that afternoon's post; its number is in the confirmation mail. If it "   \
    "has not come by Thursday, open a search with the carrier, tell the customer that you did, and offer either a "  \
    "second parcel or the money back. Nothing else is known about this order, so please do not promise an hour. "    \
    "The next step is yours: write to the customer today and set a reminder for Thursday morning."

static const char *ANSWER =
    "{\"id\":\"chatcmpl-mock00000000000000000000000001\",\"object\":\"chat.completion\",\"created\":1760000000,"
    "\"model\":\"up-model\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"" TEXT "\","
    "\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}]," USAGE(200, 90, 290) ","
    "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_0\"}";

/* Anthropic's Messages; an event's name stands before its data too */
#define EVENT(name, rest) "event: " name "\ndata: {\"type\":\"" name "\"" rest "}\n\n"
#define DELTA_TEXT EVENT("content_block_delta", ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"%s\"}")
#define MESSAGE(content, stop, output)                                                                            \
    "{\"model\":\"up-model\",\"id\":\"msg_mock0000000000000000000001\",\"type\":\"message\","                        \
    "\"role\":\"assistant\",\"content\":[" content "],\"stop_reason\":" stop ",\"stop_sequence\":null,"              \
    "\"usage\":{\"input_tokens\":200,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,"              \
    "\"cache_creation\":{\"ephemeral_5m_input_tokens\":0,\"ephemeral_1h_input_tokens\":0},"                         \
    "\"output_tokens\":" #output ",\"service_tier\":\"standard\"}}"

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void reserve(Buffer *b, size_t more) {
    if (b->len + more <= b->cap) return;
    b->cap = (b->len + more) * 2;
    b->at = realloc(b->at, b->cap);
    if (!b->at) abort();
}

static void add(Buffer *b, const char *text, size_t len) {
    reserve(b, len);
    memcpy(b->at + b->len, text, len);
    b->len += len;
}

static void add_text(Buffer *b, const char *text) { add(b, text, strlen(text)); }

/* One server-sent event as one HTTP chunk. */
static void add_event(Buffer *b, const char *event) {
    char size[32];
    add(b, size, (size_t)sprintf(size, "%zx\r\n", strlen(event)));
    add_text(b, event);
    add_text(b, "\r\n");
}

static void add_chunk(Buffer *b, const char *form, const char *text) {
    char event[1024];
    snprintf(event, sizeof event, form, text);
    add_event(b, event);
}

static void add_json(Buffer *b, const char *json) {
    char head[256];
    add(b, head, (size_t)sprintf(head, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: req_mock\r\n"
                                       "openai-processing-ms: 12\r\nContent-Length: %zu\r\n\r\n", strlen(json)));
    add_text(b, json);
}

static Form forms[] = {{.path = "/chat/completions", .chunk = CHUNK_TEXT}, {.path = "/messages", .chunk = DELTA_TEXT}};
enum { FORMS = sizeof forms / sizeof *forms };

static void prepare(void) {
    Form *openai = &forms[0], *anthropic = &forms[1];
    add_json(&models, "{\"object\":\"list\",\"data\":[{\"id\":\"up-model\",\"object\":\"model\",\"created\":1760000000,"
                      "\"owned_by\":\"mock\"}]}");
    add_json(&openai->answer, ANSWER);
    add_json(&anthropic->answer, MESSAGE("{\"type\":\"text\",\"text\":\"" TEXT "\"}", "\"end_turn\"", 90));
    for (Form *f = forms; f < forms + FORMS; f++)
        add_text(&f->head, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache"
                           "\r\nx-request-id: req_mock\r\nTransfer-Encoding: chunked\r\n\r\n");
    add_event(&openai->head, ROLE);
    add_event(&openai->tail, STOP);
    add_event(&openai->tail, CHUNK_START "\"choices\":[]," USAGE(200, 100, 300) "}\n\n");
    add_event(&openai->tail, "data: [DONE]\n\n");
    add_event(&anthropic->head, EVENT("message_start", ",\"message\":" MESSAGE("", "null", 1)));
    add_event(&anthropic->head, EVENT("content_block_start", ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}"));
    add_event(&anthropic->head, EVENT("ping", ""));
    add_event(&anthropic->tail, EVENT("content_block_stop", ",\"index\":0"));
    add_event(&anthropic->tail, EVENT("message_delta", ",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},"
                                                       "\"usage\":{\"output_tokens\":100}"));
    add_event(&anthropic->tail, EVENT("message_stop", ""));
    for (Form *f = forms; f < forms + FORMS; f++) {
        add_text(&f->tail, "0\r\n\r\n");
        add(&f->burst, f->head.at, f->head.len);
        for (int i = 0; i < CHUNKS; i++) add_chunk(&f->burst, f->chunk, "@0000000000000000000");
        add(&f->burst, f->tail.at, f->tail.len);
    }
}

static void watch(Conn *c, int op) {
    struct epoll_event e = {.events = EPOLLIN | (c->waits_to_write ? EPOLLOUT : 0u), .data.ptr = c};
    epoll_ctl(poller, op, c->fd, &e);
}

/* Writes what the socket takes; what is left goes out when it takes more. */
static void flush_out(Conn *c) {
    while (c->sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.at + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break;
        c->sent += (size_t)n;
    }
    bool left = c->sent < c->out.len;
    if (left && errno != EAGAIN) c->dead = true;
    if (!left) c->sent = c->out.len = 0;
    if (left != c->waits_to_write) {
        c->waits_to_write = left;
        watch(c, EPOLL_CTL_MOD);
    }
}

static long number_after(const char *in, size_t len, const char *word, long otherwise) {
    const char *at = memmem(in, len, word, strlen(word));
    return at ? atol(at + strlen(word)) : otherwise;
}

/* Whole size of the request at the start of c->in, 0 while it cannot be told. */
static size_t request_size(Conn *c) {
    char *end = memmem(c->in.at, c->in.len, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head = (size_t)(end - c->in.at) + 4;
    for (char *line = c->in.at; (line = memchr(line, '\n', (size_t)(end - line))); ) {
        line++;
        if (!strncasecmp(line, "content-length:", 15)) return head + strtoul(line + 15, NULL, 10);
        if (!strncasecmp(line, "transfer-encoding:", 18)) {
            char *last = memmem(end + 2, c->in.len - head + 2, "\r\n0\r\n\r\n", 7);
            return last ? (size_t)(last - c->in.at) + 7 : 0;
        }
    }
    return head;
}

static void reply(Conn *c) {
    char *body = memmem(c->in.at, c->need, "\r\n\r\n", 4) + 4;
    size_t head = (size_t)(body - c->in.at), len = c->need - head;
    size_t line = (size_t)((char *)memchr(c->in.at, '\n', head) - c->in.at);
    if (memmem(c->in.at, line, "/models", 7)) { add(&c->out, models.at, models.len); return; }
    Form *f = forms;
    while (f < forms + FORMS && !memmem(c->in.at, line, f->path, strlen(f->path))) f++;
    if (f == forms + FORMS) {
        add_text(&c->out, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        return;
    }
    if (!memmem(body, len, "\"stream\":true", 13) && !memmem(body, len, "\"stream\": true", 14)) {
        add(&c->out, f->answer.at, f->answer.len);
        return;
    }
    long pace_us = number_after(body, len, "pace_us=", 0);
    if (pace_us <= 0) { add(&c->out, f->burst.at, f->burst.len); return; }
    add(&c->out, f->head.at, f->head.len);
    c->form = f;
    c->chunks_left = CHUNKS;
    c->pace_ns = pace_us * 1000LL;
    c->due_ns = now_ns() + c->pace_ns;
    c->next_paced = paced;
    paced = c;
}

/* Answers every request that is in whole; one behind a paced stream waits for its end. */
static void serve(Conn *c) {
    while (c->in.len && !c->chunks_left) {
        if (!c->need) c->need = request_size(c);
        if (!c->need || c->in.len < c->need) break;
        reply(c);
        c->in.len -= c->need;
        memmove(c->in.at, c->in.at + c->need, c->in.len);
        c->need = 0;
    }
    flush_out(c);
}

static void readable(Conn *c) {
    reserve(&c->in, READ_BYTES);
    ssize_t n = recv(c->fd, c->in.at + c->in.len, READ_BYTES, 0);
    if (n > 0) {
        c->in.len += (size_t)n;
        serve(c);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        c->dead = true;
    }
}

static void drop(Conn *c) {
    for (Conn **p = &paced; *p; p = &(*p)->next_paced)
        if (*p == c) { *p = c->next_paced; break; }
    close(c->fd);
    free(c->in.at);
    free(c->out.at);
    free(c);
}

/* Writes the chunks that are due; says how many ns to wait for the next one, or -1 when there is none. */
static long long pace(void) {
    long long now = now_ns(), next = 0;
    for (Conn **p = &paced, *c; (c = *p); ) {
        while (c->chunks_left && c->due_ns <= now) {
            char text[32];
            sprintf(text, "@%019lld", now_ns());
            add_chunk(&c->out, c->form->chunk, text);
            c->due_ns += c->pace_ns;
            if (!--c->chunks_left) add(&c->out, c->form->tail.at, c->form->tail.len);
            flush_out(c);
        }
        if (c->dead || !c->chunks_left) {
            *p = c->next_paced;
            if (c->dead) drop(c); else serve(c);
            continue;
        }
        if (!next || c->due_ns < next) next = c->due_ns;
        p = &c->next_paced;
    }
    long long left = next - now_ns();
    return !next ? -1 : left > 0 ? left : 0;
}

static void welcome(int door) {
    int fd, on = 1;
    while ((fd = accept4(door, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        Conn *c = calloc(1, sizeof *c);
        c->fd = fd;
        watch(c, EPOLL_CTL_ADD);
    }
}

static int listen_on(int port) {
    int door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(door, (struct sockaddr *)&where, sizeof where) || listen(door, 4096)) {
        perror("mock: cannot listen");
        exit(1);
    }
    return door;
}

int main(int argc, char **argv) {
    if (argc != 2) { fputs("usage: mock PORT\n", stderr); return 2; }
    signal(SIGPIPE, SIG_IGN);
    prepare();
    int door = listen_on(atoi(argv[1]));
    poller = epoll_create1(0);
    struct epoll_event at_door = {.events = EPOLLIN, .data.ptr = &door};
    epoll_ctl(poller, EPOLL_CTL_ADD, door, &at_door);
    for (struct epoll_event got[512];;) {
        long long wait_ns = pace();
        struct timespec patience = {wait_ns / 1000000000LL, wait_ns % 1000000000LL};
        int n = epoll_pwait2(poller, got, 512, wait_ns < 0 ? NULL : &patience, NULL);
        for (int i = 0; i < n; i++) {
            if (got[i].data.ptr == &door) { welcome(door); continue; }
            Conn *c = got[i].data.ptr;
            if (got[i].events & EPOLLOUT) flush_out(c);
            if (got[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
            if (c->dead) drop(c);  /* epoll names a connection once in a batch: no later entry points to it */
        }
    }
}

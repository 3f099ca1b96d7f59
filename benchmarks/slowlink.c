/* Hold back what a loopback object store answers, as if it were a distant one.
 *
 *   cc -O2 -pthread -o slowlink slowlink.c
 *   ./slowlink LISTEN_PORT TARGET_PORT DELAY_MS [MBIT_PER_CONNECTION]
 *
 * The first byte of each answer leaves DELAY_MS after the last byte of its request came
 * in; the rest follows at once, or at the given rate per connection. Connecting costs
 * nothing extra. Both ends are on 127.0.0.1. SIGTERM ends it.
 *
 * Concurrency: two threads a connection, one a direction. They share a `struct link`, whose
 * three fields that change are atomic; the direction that finishes last frees it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 256 * 1024 };
static int target_port;
static int64_t delay_ns;
static double bytes_per_ns; /* 0: unlimited */

struct link {
    int client, server;
    _Atomic int64_t last_request;   /* when the newest request byte passed, ns */
    _Atomic int awaiting;           /* a request has passed that no response byte has answered */
    _Atomic int ends;               /* how many of the two directions have finished */
};

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void sleep_until(int64_t when) {
    struct timespec t = {when / 1000000000, when % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL)) {}
}

static int send_all(int fd, const char *p, ssize_t n) {
    while (n > 0) {
        ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
        if (k <= 0) return -1;
        p += k, n -= k;
    }
    return 0;
}

static void finish(struct link *l) {
    if (atomic_fetch_add(&l->ends, 1) == 1) {
        close(l->client);
        close(l->server);
        free(l);
    }
}

static void *requests(void *arg) {
    struct link *l = arg;
    char *buf = malloc(CHUNK);
    ssize_t n;
    while ((n = recv(l->client, buf, CHUNK, 0)) > 0) {
        atomic_store(&l->last_request, now_ns());
        atomic_store(&l->awaiting, 1);
        if (send_all(l->server, buf, n)) break;
    }
    shutdown(l->server, SHUT_WR);
    free(buf);
    finish(l);
    return NULL;
}

static void *responses(void *arg) {
    struct link *l = arg;
    char *buf = malloc(CHUNK);
    ssize_t n;
    int64_t free_at = 0;
    while ((n = recv(l->server, buf, CHUNK, 0)) > 0) {
        if (atomic_exchange(&l->awaiting, 0)) sleep_until(atomic_load(&l->last_request) + delay_ns);
        if (bytes_per_ns > 0) {
            int64_t t = now_ns();
            if (free_at < t) free_at = t;
            free_at += (int64_t)(n / bytes_per_ns);
            sleep_until(free_at);
        }
        if (send_all(l->client, buf, n)) break;
    }
    shutdown(l->client, SHUT_WR);
    free(buf);
    finish(l);
    return NULL;
}

static int socket_to(int port, int listening) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (listening) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(fd, (void *)&a, sizeof a) || listen(fd, 1024)) return -1;
    } else if (connect(fd, (void *)&a, sizeof a)) {
        close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: slowlink LISTEN_PORT TARGET_PORT DELAY_MS [MBIT_PER_CONNECTION]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    target_port = atoi(argv[2]);
    delay_ns = (int64_t)(atof(argv[3]) * 1e6);
    bytes_per_ns = argc > 4 ? atof(argv[4]) * 1e6 / 8 / 1e9 : 0;
    int listener = socket_to(atoi(argv[1]), 1);
    if (listener < 0) {
        perror("slowlink: listen");
        return 1;
    }
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 * 1024);
    pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
    for (;;) {
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0) continue;
        int one = 1;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        int server = socket_to(target_port, 0);
        if (server < 0) {
            close(client);
            continue;
        }
        struct link *l = calloc(1, sizeof *l);
        l->client = client;
        l->server = server;
        pthread_t t;
        if (pthread_create(&t, &small, requests, l) || pthread_create(&t, &small, responses, l)) abort();
    }
}

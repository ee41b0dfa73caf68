/* engine/conn_open: Unix sockets, by the option connect_to.
 * SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/client.h"
#include "tests/support/world.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define NS_PER_MS 1000000u

static char directory[64];
static char path[80];               /* in it, of the socket that the test makes */
static char target[90];             /* "unix:" and that */

static int make_directory(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/wsring-unix-XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/socket", directory);
    snprintf(target, sizeof target, "unix:%s", path);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(directory);
}

/* The URL's host is one that nobody could connect to. */
static struct wsr_socket *open_at(struct client *client, const char *connect_to)
{
    struct wsr_socket *socket = NULL;
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    options.connect_to = connect_to;
    if (wsr_socket_open(client->engine, "ws://nowhere.invalid:99/chat", WSR_ZSTRING, NULL, 0, &options, &socket) != 0)
        fail_msg("%s", wsr_error_text());
    client_listen(client, socket);
    return socket;
}

/* ---- A server ---- */

static void echo_at(struct client *client, const char *connect_to, struct peer *server)
{
    static uint8_t much[3 << 20];
    struct wsr_socket *socket = open_at(client, connect_to);
    client_until(client, WSR_EVENT_OPEN, 1);
    assert_string_equal(wsr_socket_url(socket), "ws://nowhere.invalid:99/chat");
    assert_string_equal(peer_header(server, 0, "Host"), "nowhere.invalid:99");
    assert_int_equal(wsr_send(socket, WSR_TEXT, "hello", 5), 0);
    client_until(client, WSR_EVENT_MESSAGE, 1);
    client_expect(client, "open\ntext 5 hello\n");
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(wsr_send(socket, WSR_BINARY, much, sizeof much), 0);
    client_until(client, WSR_EVENT_MESSAGE, 5);
    assert_int_equal(client->last[WSR_EVENT_MESSAGE].len, sizeof much);
    assert_int_equal(wsr_close(socket, 3000, "bye", WSR_ZSTRING), 0);
    client_until(client, WSR_EVENT_CLOSE, 1);
    assert_int_equal(client->last[WSR_EVENT_CLOSE].was_clean, 1);
    assert_int_equal(client->last[WSR_EVENT_CLOSE].code, 3000);
    assert_int_equal(peer_connections(server), 1);
    assert_int_equal(peer_connections(client->peer), 0);
}

/* OQ-21, URL-33 */
static void echo_at_path(struct client *client)
{
    struct peer *server = peer_start_unix("upgrade; echo", path);
    echo_at(client, target, server);
    peer_stop(server);
    unlink(path);
}

static void a_path_is_connected_to(void **state)
{
    (void)state;
    client_each(echo_at_path, NULL, "upgrade; echo");
}

/* OQ-21 */
static void echo_at_name(struct client *client)
{
    char name[64], connect_to[80];
    snprintf(name, sizeof name, "@wsring-conn-unix-test-%d", (int)getpid());
    snprintf(connect_to, sizeof connect_to, "unix:%s", name);
    struct peer *server = peer_start_unix("upgrade; echo", name);
    echo_at(client, connect_to, server);
    peer_stop(server);
}

static void an_abstract_name_is_connected_to(void **state)
{
    (void)state;
    client_each(echo_at_name, NULL, "upgrade; echo");
}

/* The longest path that there is, and a relative one. */
static void connect_at_length(struct client *client)
{
    char longest[128], connect_to[160];
    snprintf(longest, sizeof longest, "%s/", directory);
    memset(longest + strlen(longest), 'x', 107 - strlen(longest));
    longest[107] = '\0';
    snprintf(connect_to, sizeof connect_to, "unix:%s", longest);
    struct peer *server = peer_start_unix("upgrade; echo", longest);
    open_at(client, connect_to);
    client_until(client, WSR_EVENT_OPEN, 1);
    peer_stop(server);
    unlink(longest);

    char before[256];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(directory), 0);
    server = peer_start_unix("upgrade; echo", "./@socket");
    open_at(client, "unix:./@socket");
    client_until(client, WSR_EVENT_OPEN, 2);
    peer_stop(server);
    unlink("./@socket");
    assert_int_equal(chdir(before), 0);
}

static void paths_of_any_length_and_kind(void **state)
{
    (void)state;
    client_each(connect_at_length, NULL, "upgrade; echo");
}

/* ---- What is refused ---- */

static void refuse(struct wsr_engine *engine, const struct wsr_socket_options *options, const char *word)
{
    struct wsr_socket *const untouched = (struct wsr_socket *)(void *)directory, *socket = untouched;
    int rc = wsr_socket_open(engine, "ws://127.0.0.1/", WSR_ZSTRING, NULL, 0, options, &socket);
    if (rc != WSR_ERR_ARGUMENT || socket != untouched || strstr(wsr_error_text(), word) == NULL)
        fail_msg("%s: %s: %s", options->connect_to, wsr_error_name(rc), wsr_error_text());
}

/* OQ-21: a clear sentence, and nothing happens. */
static void refuse_bad_paths(struct client *client)
{
    static const struct { const char *connect_to, *word; } rows[] = {
        { "unix:", "unix:PATH" }, { "unix:@", "unix:@NAME" }, { "unix", "ADDRESS:PORT" }, { "UNIX:/x", "port" },
        { "unix/x", "ADDRESS:PORT" },
    };
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    char text[256] = "unix:";
    for (unsigned i = 0; i < COUNT_OF(rows); i++) {
        options.connect_to = rows[i].connect_to;
        refuse(client->engine, &options, rows[i].word);
    }
    options.connect_to = text;
    for (unsigned is_abstract = 0; is_abstract < 2; is_abstract++) {
        memset(text + 5, is_abstract ? '@' : '/', 200);
        text[5 + is_abstract + 108] = '\0';
        refuse(client->engine, &options, "107 bytes");
    }
    options.connect_to = target;
    options.source_address = "127.0.0.1";
    refuse(client->engine, &options, "leave source_address out");
    options.source_address = NULL;
    options.proxy = "socks5h://127.0.0.1:1080";
    refuse(client->engine, &options, "leave one of them out");
    client_idle(client, 20);
    client_expect(client, "");
    assert_int_equal(client_statistics(client).sockets_live, 0);
}

static void bad_paths_are_refused(void **state)
{
    (void)state;
    client_each(refuse_bad_paths, NULL, "upgrade; echo");
}

static void fail_with(struct client *client, int system_errno, const char *word)
{
    uint64_t before = client->counts[WSR_EVENT_CLOSE];
    open_at(client, target);
    client_until(client, WSR_EVENT_CLOSE, before + 1);
    const struct wsr_event *close = &client->last[WSR_EVENT_CLOSE];
    assert_int_equal(client->counts[WSR_EVENT_ERROR], before + 1);
    assert_int_equal(close->system_errno, system_errno);
    assert_int_equal(close->stage, WSR_STAGE_CONNECT);
    assert_int_equal(close->code, 1006);
    if (strstr(close->text, word) == NULL)
        fail_msg("%s", close->text);
}

/* OQ-21, F2 */
static void fail_to_connect(struct client *client)
{
    fail_with(client, ENOENT, "no Unix socket at that path");
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    fail_with(client, ECONNREFUSED, "is no socket, or nothing listens");
    unlink(path);
    close(peer_listen_unix(path, SOCK_STREAM, 1));      /* the server has ended and left it behind */
    fail_with(client, ECONNREFUSED, "nothing listens on it any more");
    unlink(path);
    if (geteuid() != 0) {                               /* whom no permission keeps out */
        fd = peer_listen_unix(path, SOCK_STREAM, 1);
        assert_int_equal(chmod(path, 0), 0);
        fail_with(client, EACCES, "permissions");
        close(fd);
        unlink(path);
    }
    fd = peer_listen_unix(path, SOCK_DGRAM, 0);
    fail_with(client, EPROTOTYPE, "no stream socket");
    close(fd);
    unlink(path);
    assert_int_equal(symlink("socket", path), 0);
    fail_with(client, ELOOP, "leads nowhere");
    unlink(path);
    assert_int_equal(client_statistics(client).sockets_live, 0);
}

static void a_failure_says_what_to_do(void **state)
{
    (void)state;
    client_each(fail_to_connect, NULL, "upgrade; echo");
}

/* ---- A server that is behind ---- */

/* Has the kernel ever taken a thread of its own for one of our operations? */
static bool has_kernel_worker(void)
{
    DIR *tasks = opendir("/proc/self/task");
    bool found = false;
    assert_non_null(tasks);
    for (const struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
        char name[300], text[32] = "";
        snprintf(name, sizeof name, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(name, "r");
        if (file == NULL)
            continue;
        found = found || (fgets(text, sizeof text, file) != NULL && strncmp(text, "iou-wrk", 7) == 0);
        fclose(file);
    }
    closedir(tasks);
    return found;
}

/* A server whose queue holds one connection, and that is in it. */
static int listen_full(int *filler)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    int listener = peer_listen_unix(path, SOCK_STREAM, 0);
    memcpy(at.sun_path, path, strlen(path));
    *filler = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(*filler, (struct sockaddr *)&at, sizeof at), 0);
    return listener;
}

/* Accept what is in the queue; turn the engine until there is something. */
static int accept_next(struct client *client, int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0)
        client_idle(client, 1);
    return fd;
}

/* OQ-21: it waits, the worker does not, and what comes of it is a connection. */
static void wait_for_room(struct client *client)
{
    int filler, listener = listen_full(&filler);
    open_at(client, target);
    struct wsr_socket *other = client_connect_open(client);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(wsr_send(other, WSR_TEXT, "x", 1), 0);
        client_until(client, WSR_EVENT_MESSAGE, i + 1);
        client_idle(client, 5);
    }
    assert_int_equal(client->counts[WSR_EVENT_OPEN], 1);
    assert_int_equal(client->counts[WSR_EVENT_CLOSE], 0);
    assert_false(has_kernel_worker());
    close(accept_next(client, listener));
    int server = accept_next(client, listener);
    char request[4] = "";
    while (recv(server, request, sizeof request, MSG_PEEK) < (ssize_t)sizeof request)
        client_idle(client, 1);
    assert_memory_equal(request, "GET ", 4);
    close(server);
    client_until(client, WSR_EVENT_CLOSE, 1);
    assert_int_equal(client->last[WSR_EVENT_CLOSE].stage, WSR_STAGE_UPGRADE);
    close(filler);
    close(listener);
    unlink(path);
}

static void a_full_queue_is_waited_for(void **state)
{
    (void)state;
    client_each(wait_for_room, NULL, "upgrade; echo");
}

/* OQ-21, F4 */
static void wait_in_vain(struct client *client)
{
    int filler, listener = listen_full(&filler);
    fail_with(client, ETIMEDOUT, "backlog");
    close(filler);
    close(listener);
    unlink(path);
}

static void a_full_queue_is_not_waited_for_for_ever(void **state)
{
    (void)state;
    struct wsr_engine_options options = WSR_ENGINE_OPTIONS_INIT;
    options.open_timeout_ns = 100 * NS_PER_MS;
    client_each(wait_in_vain, &options, "upgrade; echo");
}

/* ---- Virtual time ---- */

static unsigned connect_virtually(struct world *world)
{
    struct wsr_socket *socket;
    struct wsr_socket_options options = WSR_SOCKET_OPTIONS_INIT;
    options.connect_to = "unix:/run/feed";
    assert_int_equal(wsr_socket_open(world->engine, world_url(world, WORLD_URL), WSR_ZSTRING, NULL, 0, &options,
                                     &socket), 0);
    return world_adopt(world, socket);
}

/* OQ-21: the pauses grow, 1 ms at first, and the sixth attempt comes after 1 + 2 + 4 + 8 + 16 ms. */
static void try_again(struct world *world)
{
    for (unsigned i = 0; i < 5; i++)
        sim_script(world->sim, "refuse EAGAIN");
    sim_script(world->sim, "accept; upgrade; close 1000; expect close; fin");
    uint64_t start_ns = sim_now(world->sim);
    connect_virtually(world);
    world_run_to_end(world);
    world_expect(world, "open\nclose 1000 clean\n");
    assert_int_equal(sim_connections(world->sim), 6);
    uint64_t took_ns = sim_logged_ns(world->sim, 5, "request") - start_ns;
    assert_in_range(took_ns, 31 * NS_PER_MS, 500 * NS_PER_MS);      /* an engine that spins looks at the clock late */
    assert_int_equal(sim_last_setup(world->sim)->family, AF_UNIX);
    assert_false(sim_last_setup(world->sim)->nodelay);
    assert_null(sim_last_setup(world->sim)->source);
    assert_int_equal(sim_files_open(world->sim), 0);
}

/* OQ-21, F4, HS-13: as long as the limit lasts, and not without a rest. */
static void try_in_vain(struct world *world)
{
    sim_script(world->sim, "refuse EAGAIN");
    uint64_t start_ns = sim_now(world->sim);
    connect_virtually(world);
    world_run(world, 1900);
    world_expect(world, "");
    world_run_to_end(world);
    world_expect(world, "error\nclose 1006 unclean\n");
    assert_in_range(world->closed_ns - start_ns, 2000 * NS_PER_MS, 2010 * NS_PER_MS);
    assert_int_equal(world->last_close.system_errno, ETIMEDOUT);
    assert_int_equal(world->last_close.stage, WSR_STAGE_CONNECT);
    assert_in_range(sim_connections(world->sim), 30, 40);
    assert_int_equal(sim_files_open(world->sim), 0);
}

/* OQ-21, F7, CLOSE-32: between two attempts, or in one. */
static void give_up_between(struct world *world)
{
    bool is_destroyed = sim_random(world->sim, 2) == 0;
    sim_script(world->sim, "refuse EAGAIN");
    connect_virtually(world);
    world_run(world, sim_random(world->sim, 200));
    uint64_t start_ns = sim_now(world->sim);
    world_do(world, 0, is_destroyed ? "destroy" : "close");
    world_run(world, 100);
    unsigned connections = sim_connections(world->sim);
    world_run(world, 100);
    assert_int_equal(sim_connections(world->sim), connections);
    world_expect(world, is_destroyed ? "" : "error\nclose 1006 unclean\n");
    if (!is_destroyed)
        assert_true(world->closed_ns - start_ns < 10 * NS_PER_MS);
    assert_int_equal(sim_files_open(world->sim), 0);
}

/* An engine that ends in the middle of it. */
static void end_between(struct world *world)
{
    sim_script(world->sim, "refuse EAGAIN");
    connect_virtually(world);
    world_run(world, sim_random(world->sim, 200));
}

static void attempts_at_a_full_queue(void **state)
{
    static const struct wsr_engine_options two_seconds = { .size = sizeof two_seconds, .wait = WSR_WAIT_BLOCK,
                                                           .open_timeout_ns = 2000000000u };
    (void)state;
    world_each_seed(try_again, NULL);
    world_each_seed(try_in_vain, &two_seconds);
    world_each_seed(give_up_between, NULL);
    world_each_seed(end_between, NULL);
}

/* HS-12, OQ-21: what has no IP address waits for nobody. */
static void connect_side_by_side(struct world *world)
{
    sim_script(world->sim, "silent");
    sim_script(world->sim, "accept; upgrade; close 1000; expect close; fin");
    connect_virtually(world);
    connect_virtually(world);
    world_run(world, 100);
    world_expect(world, "1: open\n1: close 1000 clean\n");
}

static void unix_sockets_open_side_by_side(void **state)
{
    static const struct wsr_engine_options one = { .size = sizeof one, .flags = WSR_ENGINE_ONE_CONNECTING };
    (void)state;
    world_each_seed(connect_side_by_side, &one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_is_connected_to),
        cmocka_unit_test(an_abstract_name_is_connected_to),
        cmocka_unit_test(paths_of_any_length_and_kind),
        cmocka_unit_test(bad_paths_are_refused),
        cmocka_unit_test(a_failure_says_what_to_do),
        cmocka_unit_test(a_full_queue_is_waited_for),
        cmocka_unit_test(a_full_queue_is_not_waited_for_for_ever),
        cmocka_unit_test(attempts_at_a_full_queue),
        cmocka_unit_test(unix_sockets_open_side_by_side),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

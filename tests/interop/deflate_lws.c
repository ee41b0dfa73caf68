/* Echo servers on libwebsockets that agree to permessage-deflate, one for each configuration: Debian's test server has
 * the extension compiled in, but agrees to none.
 *
 * usage: deflate_lws CONFIGURATIONS [CERTIFICATE KEY]
 *
 * CONFIGURATIONS is a JSON array of strings, each "OPTION=NUMBER;..." as lws_set_extension_option() takes them. The
 * first line of standard output is a JSON array of the ports; then each connection ends with one line, a JSON object
 * with "id", of the URL's query.
 * SPDX-License-Identifier: MIT */
#include <libwebsockets.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "permessage-deflate"
#define CONFIGURATIONS_MAX 16
#define RX_BYTES 4096               /* what a callback gets at most */

struct message {
    struct message *next;
    size_t len;
    bool is_text;
    uint8_t bytes[];                /* behind LWS_PRE of them */
};

/* One connection; libwebsockets makes it, of zeros. */
struct link {
    struct message *first, *last;
    struct message *writing;        /* libwebsockets may read it until the next writable callback */
    struct message *part;           /* grows until its message is whole */
    size_t part_room;
    char id[32];
};

static const char *configurations[CONFIGURATIONS_MAX];
static unsigned configurations_count;

static void die(const char *what)
{
    fprintf(stderr, "deflate_lws: %s\n", what);
    exit(1);
}

/* ---- Messages ---- */

static void receive(struct lws *wsi, struct link *link, const void *data, size_t len)
{
    struct message *part = link->part;
    size_t used = part != NULL ? part->len : 0;
    if (part == NULL || len > link->part_room - used) {
        link->part_room = 2 * (used + len) + RX_BYTES;
        link->part = realloc(part, sizeof *part + LWS_PRE + link->part_room);
        if (link->part == NULL)
            die("no memory");
        if (part == NULL)
            *link->part = (struct message){ .is_text = !lws_frame_is_binary(wsi) };
        part = link->part;
    }
    if (len > 0)
        memcpy(part->bytes + LWS_PRE + used, data, len);
    part->len = used + len;
    if (!lws_is_final_fragment(wsi) || lws_remaining_packet_payload(wsi) > 0)
        return;
    link->part = NULL;
    *(link->first != NULL ? &link->last->next : &link->first) = part;
    link->last = part;
    lws_callback_on_writable(wsi);
}

/* One for each callback, as libwebsockets wants it. */
static int write_next(struct lws *wsi, struct link *link)
{
    free(link->writing);
    struct message *message = link->writing = link->first;
    if (message == NULL)
        return 0;
    link->first = message->next;
    enum lws_write_protocol kind = message->is_text ? LWS_WRITE_TEXT : LWS_WRITE_BINARY;
    int rc = lws_write(wsi, message->bytes + LWS_PRE, message->len, kind);
    lws_callback_on_writable(wsi);
    return rc < 0 ? -1 : 0;
}

static void drop(struct link *link)
{
    for (struct message *message; (message = link->first) != NULL; free(message))
        link->first = message->next;
    free(link->writing);
    free(link->part);
    *link = (struct link){ 0 };
}

/* ---- Connections ---- */

/* As lws_set_extension_option() takes them: it fails where the client has offered nothing, which is well. */
static void configure(struct lws *wsi)
{
    char options[128], *rest;
    snprintf(options, sizeof options, "%s", configurations[strtoul(lws_get_vhost_name(lws_get_vhost(wsi)), NULL, 10)]);
    for (char *option = strtok_r(options, ";", &rest); option != NULL; option = strtok_r(NULL, ";", &rest)) {
        char *value = strchr(option, '=');
        if (value == NULL)
            die("an option without a number");
        *value = '\0';
        (void)lws_set_extension_option(wsi, NAME, option, value + 1);
    }
}

static int read_id(struct lws *wsi, struct link *link)
{
    char room[sizeof link->id];
    const char *id = lws_get_urlarg_by_name(wsi, "id=", room, sizeof room);
    if (id != NULL)
        snprintf(link->id, sizeof link->id, "%s", id + (strncmp(id, "id=", 3) == 0 ? 3 : 0));
    return id != NULL ? 0 : -1;
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    struct link *link = user;
    switch (reason) {
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
        return read_id(wsi, link);
    case LWS_CALLBACK_ESTABLISHED:
        configure(wsi);
        break;
    case LWS_CALLBACK_RECEIVE:
        receive(wsi, link, in, len);
        break;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return write_next(wsi, link);
    case LWS_CALLBACK_CLOSED:
        printf("{\"id\": \"%s\"}\n", link->id);
        drop(link);
        break;
    default:
        break;
    }
    return 0;
}

/* ---- Servers ---- */

/* The strings of a JSON array; none of them has an escape. */
static void read_configurations(char *array)
{
    for (char *at = strchr(array, '"'); at != NULL; at = strchr(at, '"')) {
        char *end = strchr(++at, '"');
        if (end == NULL || configurations_count == CONFIGURATIONS_MAX)
            die("no JSON array of strings, or of too many");
        *end = '\0';
        configurations[configurations_count++] = at;
        at = end + 1;
    }
}

static struct lws_vhost *listen_with(struct lws_context *context, unsigned number, char **certificate_and_key)
{
    static const struct lws_protocols protocols[] = {
        { .name = "echo", .callback = on_event, .per_session_data_size = sizeof(struct link),
          .rx_buffer_size = RX_BYTES },
        { .name = NULL }
    };
    static const struct lws_extension extensions[] = {
        { .name = NAME, .callback = lws_extension_callback_pm_deflate },
        { .name = NULL }
    };
    static char names[CONFIGURATIONS_MAX][16];
    snprintf(names[number], sizeof names[number], "%u", number);
    struct lws_context_creation_info info = {
        .port = 0, .iface = "127.0.0.1", .protocols = protocols, .extensions = extensions, .vhost_name = names[number],
        .ssl_cert_filepath = certificate_and_key[0],
        .ssl_private_key_filepath = certificate_and_key[0] != NULL ? certificate_and_key[1] : NULL,
        .options = certificate_and_key[0] != NULL ? LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT : 0
    };
    return lws_create_vhost(context, &info);
}

int main(int argc, char **argv)
{
    struct lws_context_creation_info info = { .port = CONTEXT_PORT_NO_LISTEN,
                                              .options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS };
    if (argc != 2 && argc != 4)
        die("usage: deflate_lws CONFIGURATIONS [CERTIFICATE KEY]");
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    lws_set_log_level(LLL_ERR, NULL);
    read_configurations(argv[1]);
    if (argc == 4)
        info.options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
    struct lws_context *context = lws_create_context(&info);
    if (context == NULL)
        die("no context");
    for (unsigned i = 0; i < configurations_count; i++) {
        struct lws_vhost *vhost = listen_with(context, i, argv + 2);
        if (vhost == NULL)
            die("it cannot listen");
        printf("%s%d", i == 0 ? "[" : ", ", lws_get_vhost_listen_port(vhost));
    }
    puts("]");
    while (lws_service(context, 0) >= 0)
        continue;
    lws_context_destroy(context);
    return 0;
}

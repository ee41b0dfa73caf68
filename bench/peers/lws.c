/* The comparison's client on libwebsockets.
 * SPDX-License-Identifier: MIT */
#include <libwebsockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "work.h"

#define OPENING_MAX 64u               /* connections on their way at once */
#define SERVICE_BYTES (64u << 10)     /* read at a time, into one buffer for all connections */

struct link {
    struct lws *wsi;
    uint8_t *part;                    /* of a message that does not come at once */
    uint32_t part_bytes;
    uint32_t sent, seen;
    uint32_t pending;                 /* to be sent when writable */
};

static struct wsr_work work;
static struct link *links;
static uint32_t open_count;
static uint64_t then_ns;
static uint8_t room[LWS_PRE + WSR_WORK_SIZE_MAX];

static void end(const char *way)
{
    char library[64];
    snprintf(library, sizeof library, "libwebsockets %d.%d.%d", LWS_LIBRARY_VERSION_MAJOR, LWS_LIBRARY_VERSION_MINOR,
             LWS_LIBRARY_VERSION_PATCH);
    wsr_work_end(&work, library, way);
}

static void take(struct link *link, const void *data, size_t len)
{
    if (work.kind == WSR_WORK_ROUNDTRIP) {
        uint64_t now_ns = wsr_work_now();
        if (!wsr_work_is_pong(&work, data, len))
            wsr_work_fail("libwebsockets", "a wrong answer");
        if (!wsr_work_note_trip(&work, then_ns, now_ns))
            end("spinning");
        then_ns = now_ns;
    } else {
        if (!wsr_work_is_next(&work, data, len, &link->seen))
            wsr_work_fail("libwebsockets", "a wrong message");
        /* Messages that come before all are open are part of the warm-up. */
        if (work.end_ns == 0)
            work.messages++;
        else if (!wsr_work_count(&work))
            end("sleeping");
    }
    if (work.kind != WSR_WORK_INGEST) {
        link->pending++;
        lws_callback_on_writable(link->wsi);
    }
}

static void receive(struct link *link, const uint8_t *in, size_t len)
{
    bool is_whole = lws_is_final_fragment(link->wsi) && lws_remaining_packet_payload(link->wsi) == 0;
    if (is_whole && link->part_bytes == 0) {
        take(link, in, len);
        return;
    }
    if (len > work.size_bytes - link->part_bytes)
        wsr_work_fail("libwebsockets", "a message that is too long");
    if (link->part == NULL && (link->part = malloc(work.size_bytes)) == NULL)
        wsr_work_fail("libwebsockets", "no memory");
    memcpy(link->part + link->part_bytes, in, len);
    link->part_bytes += (uint32_t)len;
    if (!is_whole)
        return;
    take(link, link->part, link->part_bytes);
    link->part_bytes = 0;
}

/* As many as are due and leave whole; libwebsockets masks them in place. */
static int write_pending(struct link *link)
{
    uint8_t *payload = room + LWS_PRE;
    while (link->pending > 0 && !lws_partial_buffered(link->wsi)) {
        memset(payload, 'x', work.size_bytes);
        if (work.kind == WSR_WORK_ECHO)
            wsr_work_number(&work, payload, &link->sent);
        if (lws_write(link->wsi, payload, work.size_bytes, LWS_WRITE_BINARY) < (int)work.size_bytes)
            wsr_work_fail("libwebsockets", "a message could not be written");
        link->pending--;
    }
    if (link->pending > 0)
        lws_callback_on_writable(link->wsi);
    return 0;
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    (void)user;
    struct link *link = wsi != NULL ? lws_get_opaque_user_data(wsi) : NULL;
    switch (reason) {
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        open_count++;
        break;
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        wsr_work_fail("libwebsockets", in != NULL ? in : "a connection did not open");
    case LWS_CALLBACK_CLIENT_CLOSED:
        wsr_work_fail("libwebsockets", "a connection ended");
    case LWS_CALLBACK_CLIENT_RECEIVE:
        receive(link, in, len);
        break;
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        return write_pending(link);
    default:
        break;
    }
    return 0;
}

static void open_links(struct lws_context *context, uint32_t from, uint32_t to)
{
    for (uint32_t begun = from; open_count < to;) {
        for (; begun < to && begun - open_count < OPENING_MAX; begun++) {
            struct lws_client_connect_info info = {
                .context = context, .address = work.host, .port = work.port, .path = "/", .host = work.host,
                .ietf_version_or_minus_one = -1, .local_protocol_name = "bench", .opaque_user_data = &links[begun],
                .pwsi = &links[begun].wsi, .ssl_connection = work.ca_file != NULL ? LCCSCF_USE_SSL : 0
            };
            if (lws_client_connect_via_info(&info) == NULL)
                wsr_work_fail("libwebsockets", "no connection");
        }
        lws_service(context, 0);
    }
}

/* poll() of libwebsockets' own is some 2 % of what an echo on 64 connections costs: no event library. */
static struct lws_context *make_context(void)
{
    /* A message goes to the callback in parts of at most rx_buffer_size; each connection has a buffer of that. */
    static struct lws_protocols protocols[] = { { .name = "bench", .callback = on_event }, { .name = NULL } };
    protocols[0].rx_buffer_size = work.kind == WSR_WORK_MEMORY ? work.size_bytes : SERVICE_BYTES;
    const struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN, .protocols = protocols, .pt_serv_buf_size = SERVICE_BYTES,
        .client_ssl_ca_filepath = work.ca_file,
        .options = work.ca_file != NULL ? LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT : 0
    };
    lws_set_log_level(LLL_ERR, NULL);
    struct lws_context *context = lws_create_context(&info);
    if (context == NULL)
        wsr_work_fail("libwebsockets", "no context");
    return context;
}

int main(int argc, char **argv)
{
    wsr_work_read(&work, argc, argv);
    struct lws_context *context = make_context();
    links = calloc(work.connections_count, sizeof *links);
    if (links == NULL)
        wsr_work_fail("libwebsockets", "no memory");
    if (work.kind == WSR_WORK_MEMORY) {
        /* The list is this program's own, so that it is touched before the first look. */
        memset(links, 1, work.connections_count * sizeof *links);
        open_links(context, 0, wsr_work_few(&work));
        wsr_work_look_at_memory(&work);
        open_links(context, wsr_work_few(&work), work.connections_count);
        end("receive buffer of one message");
    }
    open_links(context, 0, work.connections_count);
    wsr_work_begin(&work);
    then_ns = wsr_work_now();
    for (uint32_t i = 0; work.kind != WSR_WORK_INGEST && i < work.connections_count; i++) {
        links[i].pending = work.kind == WSR_WORK_ECHO ? work.in_flight : 1;
        lws_callback_on_writable(links[i].wsi);
    }
    /* A negative time means not to wait at all. */
    while (lws_service(context, work.kind == WSR_WORK_ROUNDTRIP ? -1 : 0) >= 0)
        continue;
    wsr_work_fail("libwebsockets", "nothing more to do");
}

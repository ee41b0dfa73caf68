/* Opening and destroying a socket, and what can be read from it. */
#include "socket.h"

#include <stdlib.h>
#include <strings.h>

#include "error.h"
#include "options.h"
#include "url_port.h"

/* ---- The one place where readyState changes ---- */

bool wsr_socket_enter(struct wsr_socket *socket, enum wsr_ready_state from, enum wsr_ready_state to)
{
    assert(to > from);
    uint8_t expected = (uint8_t)from;
    /* Release and acquire: who sees the new state sees what its maker did before, as wsr_send() must after OPEN. */
    if (!atomic_compare_exchange_strong_explicit(&socket->ready_state, &expected, (uint8_t)to, memory_order_acq_rel,
                                                 memory_order_acquire))
        return false;
    return true;
}

enum wsr_ready_state wsr_socket_ready_state(const struct wsr_socket *socket)
{
    /* Pairs with the exchange in wsr_socket_enter(). */
    return (enum wsr_ready_state)atomic_load_explicit(&socket->ready_state, memory_order_acquire);
}

/* Each thread has its own stream: no lock, and none sees another's. */
static _Thread_local struct wsr_entropy entropy;

void wsr_socket_random(void *out, size_t len)
{
    wsr_entropy_take(&entropy, out, len);
}

void wsr_socket_mask_key(uint8_t key[4])
{
    wsr_entropy_take(&entropy, key, 4);
}

struct wsr_entropy *wsr_socket_entropy(void)
{
    return &entropy;
}

/* ---- Opening ---- */

/* What wsr_socket_open() gathers before there is a socket. */
struct plan {
    struct wsr_url url;
    char *url_text;
    char *base_text;
    struct wsr_socket_options options;
    struct wsr_opening *opening;
};

static int parse_base(struct plan *plan, struct wsr_url *base)
{
    const char *in = plan->options.base_url;
    size_t len = strlen(in);
    size_t capacity = wsr_url_text_bytes(len, 0);
    plan->base_text = malloc(capacity);
    if (plan->base_text == NULL)
        return wsr_error_set(WSR_ERR_MEMORY, "no memory for the base URL");
    struct wsr_fault why;
    int rc = wsr_url_parse(base, in, len, NULL, plan->base_text, capacity, &why);
    if (rc == WSR_ERR_SYNTAX)
        return wsr_error_set(rc, "base_url, byte %zu: %s", why.at, why.text);
    return rc == 0 ? 0 : wsr_error_set(rc, "no memory for the base URL");
}

static int parse_url(struct plan *plan, const char *url, size_t url_len)
{
    struct wsr_url base;
    bool has_base = plan->options.base_url != NULL;
    if (has_base) {
        int rc = parse_base(plan, &base);
        if (rc != 0)
            return rc;
    }
    size_t capacity = wsr_url_text_bytes(url_len, has_base ? base.href.len : 0);
    plan->url_text = malloc(capacity);
    if (plan->url_text == NULL)
        return wsr_error_set(WSR_ERR_MEMORY, "no memory for the URL");
    struct wsr_fault why;
    int rc = wsr_url_parse(&plan->url, url, url_len, has_base ? &base : NULL, plan->url_text, capacity, &why);
    if (rc == WSR_ERR_SYNTAX)
        return wsr_error_set(rc, "URL, byte %zu: %s", why.at, why.text);
    return rc == 0 ? 0 : wsr_error_set(rc, "no memory for the URL");
}

static int check_headers(const struct wsr_socket_options *options)
{
    bool may_have_host = (options->flags & WSR_SOCKET_OWN_HOST) != 0, has_host = false;
    if (options->headers_count > 0 && options->headers == NULL)
        return wsr_error_set(WSR_ERR_ARGUMENT, "headers is NULL but headers_count is %u", options->headers_count);
    for (uint32_t i = 0; i < options->headers_count; i++) {
        const struct wsr_header *header = &options->headers[i];
        bool is_host = may_have_host && wsr_handshake_is_host(header);
        struct wsr_fault why;
        if (is_host && has_host)
            return wsr_error_set(WSR_ERR_SYNTAX, "header number %u is a second Host: a request has one", i);
        int rc = is_host ? wsr_handshake_check_host(header, &why) : wsr_handshake_check_header(header, &why);
        if (rc != 0)
            return wsr_error_set(rc, "header number %u: %s", i, why.text);
        has_host = has_host || is_host;
    }
    return 0;
}

static int check_request(const struct plan *plan, const char *const *protocols, size_t protocols_count)
{
    struct wsr_fault why;
    if (protocols_count > 0 && protocols == NULL)
        return wsr_error_set(WSR_ERR_ARGUMENT, "protocols is NULL but protocols_count is %zu", protocols_count);
    int rc = wsr_handshake_check_protocols(protocols, protocols_count, &why);
    if (rc != 0)
        return wsr_error_set(rc, "protocol number %zu: %s", why.at, why.text);
    return check_headers(&plan->options);
}

/* A host and port to connect to; the host as in a URL. */
struct place {
    struct wsr_bytes host;
    uint16_t port;
};

/* Make the tunnel to *place, and put there whose name or address comes next: the proxy's, or still the destination's
 * when that is to be looked up first. */
static int plan_proxy(struct plan *plan, struct place *place)
{
    struct wsr_opening *opening = plan->opening;
    struct wsr_dial *dial = &opening->dial;
    struct wsr_proxy_url url;
    struct wsr_fault why;
    int rc = wsr_proxy_parse(&url, plan->options.proxy, &why);
    if (rc == WSR_ERR_SYNTAX)
        return wsr_error_set(rc, "proxy, byte %zu: %s", why.at, why.text);    /* not its text: it may hold a password */
    if (rc == 0)
        rc = wsr_proxy_create(&opening->proxy, &url, place->host, place->port, &why);
    if (rc == WSR_ERR_SYNTAX)
        return wsr_error_set(rc, "proxy: %s", why.text);
    if (rc != 0)
        return wsr_error_set(rc, "no memory for a proxy");
    struct wsr_bytes host = wsr_bytes_of_string(opening->proxy->host);
    if (wsr_proxy_wants_address(opening->proxy)) {
        if (wsr_resolve_numeric(&dial->addresses[0], (const char *)host.data, host.len, url.port))
            dial->addresses_count = 1;
    } else {
        *place = (struct place){ host, url.port };
    }
    return 0;
}

/* The option connect_to: what to connect to instead of *place, or what a proxy is to be asked for. */
static int plan_connect_to(struct plan *plan, struct place *place)
{
    struct wsr_dial *dial = &plan->opening->dial;
    const struct wsr_socket_options *options = &plan->options;
    struct wsr_fault why;
    int rc = wsr_dial_only(dial, options->connect_to, &why);
    if (rc != 0)
        return wsr_error_set(rc, "connect_to \"%.80s\" %s", options->connect_to, why.text);
    if (dial->path.bytes > 0 && options->source_address != NULL)
        return wsr_error_set(WSR_ERR_ARGUMENT, "source_address \"%.64s\" is given with connect_to \"%.80s\": a Unix "
                             "socket has no address to connect from; leave source_address out",
                             options->source_address, options->connect_to);
    if (dial->path.bytes > 0 && options->proxy != NULL)
        return wsr_error_set(WSR_ERR_ARGUMENT, "a proxy is given with connect_to \"%.80s\": it cannot be asked for a "
                             "Unix socket; leave one of them out", options->connect_to);
    if (options->proxy == NULL)
        return 0;
    const struct wsr_address *address = &dial->addresses[0];
    in_port_t port = address->any.sa_family == AF_INET6 ? address->in6.sin6_port : address->in4.sin_port;
    const char *colon = strrchr(options->connect_to, ':');
    *place = (struct place){ wsr_bytes_of(options->connect_to, (size_t)(colon - options->connect_to)), ntohs(port) };
    dial->addresses_count = 0;
    return 0;
}

/* Where to connect, and from where. */
static int plan_addresses(struct plan *plan)
{
    struct wsr_opening *opening = plan->opening;
    struct wsr_dial *dial = &opening->dial;
    const struct wsr_socket_options *options = &plan->options;
    struct place place = { plan->url.host, plan->url.port };
    if (options->source_address != NULL &&
        !wsr_resolve_numeric(&dial->source, options->source_address, strlen(options->source_address), 0))
        return wsr_error_set(WSR_ERR_ARGUMENT, "source_address \"%.64s\" is no numeric IPv4 or IPv6 address",
                             options->source_address);
    if (options->connect_to != NULL) {
        int rc = plan_connect_to(plan, &place);
        if (rc != 0 || options->proxy == NULL)
            return rc;
    }
    if (options->proxy != NULL) {
        int rc = plan_proxy(plan, &place);
        if (rc != 0)
            return rc;
    }
    const char *host = (const char *)place.host.data;
    if (wsr_resolve_numeric(&dial->addresses[0], host, place.host.len, place.port)) {
        dial->addresses_count = 1;
        return 0;
    }
    /* A name that is longer than the DNS allows stays empty: its look-up fails as any other would (F1). */
    if (place.host.len < sizeof opening->lookup.host)
        memcpy(opening->lookup.host, host, place.host.len);
    opening->lookup.port = place.port;
    return 0;
}

/* The protocols as they are sent, for judging the answer. */
static int plan_offer(struct plan *plan, const char *const *protocols, size_t protocols_count)
{
    size_t bytes = 1;
    for (size_t i = 0; i < protocols_count; i++)
        bytes += strlen(protocols[i]) + 2;
    char *joined = malloc(bytes);
    if (joined == NULL)
        return wsr_error_set(WSR_ERR_MEMORY, "no memory for the subprotocols");
    plan->opening->offered = joined;
    char *to = joined;
    for (size_t i = 0; i < protocols_count; i++) {
        if (i > 0) {
            memcpy(to, ", ", 2);
            to += 2;
        }
        size_t len = strlen(protocols[i]);
        memcpy(to, protocols[i], len);
        to += len;
    }
    plan->opening->upgrade.offer.protocols = wsr_bytes_of(joined, (size_t)(to - joined));
    return 0;
}

/* What is offered for compression. */
static int plan_deflate(struct plan *plan)
{
    const char *offer = plan->options.deflate != NULL ? plan->options.deflate : WSR_DEFLATE_OFFER_DEFAULT;
    struct wsr_fault why;
    plan->options.deflate = offer;
    int rc = wsr_deflate_offer_parse(&plan->opening->upgrade.offer.deflate, wsr_bytes_of_string(offer), &why);
    return rc == 0 ? 0 : wsr_error_set(rc, "deflate, byte %zu: %s", why.at, why.text);
}

static int plan_request(struct plan *plan, const char *const *protocols, size_t protocols_count)
{
    uint8_t nonce[16];
    char key[WSR_HANDSHAKE_KEY_CHARS + 1];
    wsr_socket_random(nonce, sizeof nonce);
    wsr_handshake_key(key, nonce);
    struct wsr_opening *opening = plan->opening;
    int rc = plan_deflate(plan);
    if (rc != 0)
        return rc;
    if (wsr_handshake_accept(opening->upgrade.offer.accept, key) != 0)
        return wsr_error_set(WSR_ERR_MEMORY, "no memory for the handshake's key");
    const struct wsr_handshake_request request = {
        .url = &plan->url, .protocols = protocols, .protocols_count = protocols_count,
        .headers = plan->options.headers, .headers_count = plan->options.headers_count,
        .extensions = wsr_bytes_of_string(plan->options.deflate), .key = key,
    };
    size_t bytes = wsr_handshake_write_request(NULL, 0, &request);
    opening->request = malloc(bytes);
    if (opening->request == NULL)
        return wsr_error_set(WSR_ERR_MEMORY, "no memory for the upgrade request");
    opening->request_bytes = wsr_handshake_write_request(opening->request, bytes, &request);
    assert(opening->request_bytes == bytes);
    return plan_offer(plan, protocols, protocols_count);
}

static int make_plan(struct plan *plan, const char *url, size_t url_len, const char *const *protocols,
                     size_t protocols_count)
{
    int rc = parse_url(plan, url, url_len);
    if (rc != 0)
        return rc;
    rc = check_request(plan, protocols, protocols_count);
    if (rc != 0)
        return rc;
    plan->opening = calloc(1, sizeof *plan->opening);
    if (plan->opening == NULL)
        return wsr_error_set(WSR_ERR_MEMORY, "no memory for a connection attempt");
    if ((plan->options.flags & WSR_SOCKET_REFUSE_BAD_PORTS) != 0 && wsr_url_port_is_bad(plan->url.port))
        plan->opening->refusal = "the URL's port is one of those that browsers block (Fetch Standard, bad port); use "
                                 "another, or do without WSR_SOCKET_REFUSE_BAD_PORTS";
    plan->opening->keeps_response = (plan->options.flags & WSR_SOCKET_KEEP_RESPONSE) != 0;
    rc = plan_addresses(plan);
    if (rc == 0 && plan->options.tls_name != NULL && !plan->url.secure)
        return wsr_error_set(WSR_ERR_ARGUMENT, "tls_name is given with a URL that is not wss:; leave it out");
    if (rc == 0 && plan->url.secure)
        rc = wsr_socket_plan_tls(plan->opening, &plan->url, plan->options.tls_name);
    return rc != 0 ? rc : plan_request(plan, protocols, protocols_count);
}

static uint32_t live_of(const struct wsr_engine *engine, uint32_t ring)
{
    return atomic_load_explicit(&engine->consumers[ring].worker->live_count, memory_order_relaxed);
}

/* Take a place on the worker asked for, or on the one with the fewest sockets. */
static int take_place(struct wsr_engine *engine, uint32_t worker, struct wsr_worker **out)
{
    if (worker > engine->rings_count)
        return wsr_error_set(WSR_ERR_ARGUMENT, "there is no worker %u; workers are numbered from 1 to %u", worker,
                             engine->rings_count);
    uint32_t chosen = worker != WSR_ANY_WORKER ? worker - 1 : 0;
    for (uint32_t i = 1; worker == WSR_ANY_WORKER && i < engine->rings_count; i++) {
        if (live_of(engine, i) < live_of(engine, chosen))
            chosen = i;
    }
    _Atomic uint32_t *live = &engine->consumers[chosen].worker->live_count;
    /* A count alone; given back by on_freed() of worker.c. */
    if (atomic_fetch_add_explicit(live, 1, memory_order_relaxed) >= engine->options.sockets_max) {
        atomic_fetch_sub_explicit(live, 1, memory_order_relaxed);
        return wsr_error_set(WSR_ERR_MEMORY,
                             "worker %u has its %u sockets already; raise sockets_max%s or use more workers",
                             chosen + 1, engine->options.sockets_max,
                             (engine->options.flags & WSR_ENGINE_DIRECT_DESCRIPTORS) != 0
                                 ? ", for direct descriptors the limit of open files (ulimit -n) too," : "");
    }
    *out = engine->consumers[chosen].worker;
    return 0;
}

static void enlist(struct wsr_engine *engine, struct wsr_socket *socket)
{
    pthread_mutex_lock(&engine->sockets_lock);
    socket->next = engine->sockets;
    socket->place = &engine->sockets;
    if (socket->next != NULL)
        socket->next->place = &socket->next;
    engine->sockets = socket;
    pthread_mutex_unlock(&engine->sockets_lock);
}

static struct wsr_socket *make_socket(const struct plan *plan)
{
    size_t url_bytes = plan->url.href.len + 1;
    struct wsr_socket *socket = calloc(1, offsetof(struct wsr_socket, url) + url_bytes + plan->url.origin.len + 1);
    if (socket == NULL)
        return NULL;
    memcpy(socket->url, plan->url.href.data, plan->url.href.len);
    memcpy(socket->url + url_bytes, plan->url.origin.data, plan->url.origin.len);
    socket->user = plan->options.user;
    uint64_t fragment_bytes = plan->options.fragment_bytes;
    socket->link.fragment_bytes = fragment_bytes < UINT32_MAX ? (uint32_t)fragment_bytes : UINT32_MAX;
    return socket;
}

static int start(struct wsr_engine *engine, struct plan *plan, struct wsr_socket **out)
{
    struct wsr_socket *socket = make_socket(plan);
    if (socket == NULL)
        return wsr_error_set(WSR_ERR_MEMORY, "no memory for a socket");
    int rc = take_place(engine, plan->options.worker, &socket->worker);
    if (rc != 0) {
        free(socket);
        return rc;
    }
    socket->link.command.subject = plan->opening;
    plan->opening = NULL;
    socket->link.command.kind = WSR_COMMAND_LINK;
    enlist(engine, socket);
    *out = socket;
    wsr_worker_ask(socket->worker, &socket->link, WSR_LINK_OPEN);
    return 0;
}

int wsr_socket_open(struct wsr_engine *engine, const char *url, size_t url_len, const char *const *protocols,
                    size_t protocols_count, const struct wsr_socket_options *options, struct wsr_socket **socket)
{
    if (engine == NULL || url == NULL || socket == NULL)
        return wsr_error_set(WSR_ERR_ARGUMENT, "wsr_socket_open needs an engine, a URL and a place for the socket");
    struct plan plan = { .options = WSR_SOCKET_OPTIONS_INIT };
    int rc = wsr_options_copy(&plan.options, sizeof plan.options, options, "wsr_socket_options");
    if (rc != 0)
        return rc;
    const uint32_t known = WSR_SOCKET_KEEP_RESPONSE | WSR_SOCKET_OWN_HOST | WSR_SOCKET_REFUSE_BAD_PORTS;
    if ((plan.options.flags & ~known) != 0)
        return wsr_error_set(WSR_ERR_ARGUMENT, "wsr_socket_options.flags 0x%x has unknown flags", plan.options.flags);
    rc = make_plan(&plan, url, url_len == WSR_ZSTRING ? strlen(url) : url_len, protocols, protocols_count);
    if (rc == 0 && plan.url.secure)
        rc = wsr_engine_tls(engine, &plan.opening->tls_context);
    if (rc == 0)
        rc = start(engine, &plan, socket);
    wsr_conn_opening_free(plan.opening);
    free(plan.url_text);
    free(plan.base_text);
    return rc;
}

/* ---- Destroying ---- */

void wsr_socket_free(struct wsr_engine *engine, struct wsr_socket *socket)
{
    pthread_mutex_lock(&engine->sockets_lock);
    *socket->place = socket->next;
    if (socket->next != NULL)
        socket->next->place = socket->place;
    pthread_mutex_unlock(&engine->sockets_lock);
    wsr_listener_free(socket->listeners);
    /* A broken worker may have left the command. */
    wsr_conn_opening_free(socket->link.command.subject);
    free(socket->link.answer);
    free(socket);
}

void wsr_socket_destroy(struct wsr_socket *socket)
{
    if (socket == NULL || socket->is_destroyed)
        return;
    socket->is_destroyed = true;
    struct wsr_worker *worker = socket->worker;
    uint8_t key[4];
    wsr_socket_random(key, sizeof key);
    struct wsr_chunk *farewell = wsr_queue_close_frame(worker->host.slab, 1001, wsr_bytes_of(NULL, 0), key);
    if (farewell == NULL) {
        wsr_worker_ask(worker, &socket->link, WSR_LINK_DESTROY);
        return;
    }
    farewell->command.subject = &socket->link;
    farewell->command.kind = WSR_COMMAND_FAREWELL;
    wsr_worker_push(worker, &farewell->command);
}

/* ---- Reading ---- */

const char *wsr_socket_url(const struct wsr_socket *socket)
{
    return socket->url;
}

const char *wsr_socket_origin(const struct wsr_socket *socket)
{
    return socket->url + strlen(socket->url) + 1;
}

/* The answer is the conn's until the open event was taken, and nobody's concern when that was dropped. */
static const char *agreement_of(const struct wsr_socket *socket)
{
    return socket->is_agreed && socket->link.answer != NULL ? socket->link.answer->text : "\0";
}

const char *wsr_socket_protocol(const struct wsr_socket *socket)
{
    return agreement_of(socket);
}

const char *wsr_socket_extensions(const struct wsr_socket *socket)
{
    const char *agreement = agreement_of(socket);
    return agreement + strlen(agreement) + 1;
}

const char *wsr_socket_response_header(const struct wsr_socket *socket, const char *name, size_t index, size_t *len)
{
    /* Until one of these events was taken, the answer is the conn's. */
    const struct wsr_conn_answer *kept = socket->is_agreed || socket->has_failed ? socket->link.answer : NULL;
    struct wsr_http_response response;
    struct wsr_http_field field;
    struct wsr_fault why;
    size_t scanned = 0, name_len = strlen(name);
    if (kept == NULL)
        return NULL;
    const char *extensions = kept->text + strlen(kept->text) + 1;
    const uint8_t *head = (const uint8_t *)extensions + strlen(extensions) + 1;
    if (wsr_http_parse(&response, head, kept->head_bytes, &scanned, &why) <= 0)
        return NULL;
    while (wsr_http_next_field(&response.fields, &field)) {
        bool is_it = field.name.len == name_len && strncasecmp((const char *)field.name.data, name, name_len) == 0;
        if (is_it && index-- == 0) {
            *len = field.value.len;
            return (const char *)field.value.data;
        }
    }
    return NULL;
}

enum wsr_binary_type wsr_socket_binary_type(const struct wsr_socket *socket)
{
    return (enum wsr_binary_type)atomic_load_explicit(&socket->link.binary_type, memory_order_relaxed);
}

void wsr_socket_set_binary_type(struct wsr_socket *socket, enum wsr_binary_type type)
{
    if (type == WSR_BLOB || type == WSR_ARRAYBUFFER)
        atomic_store_explicit(&socket->link.binary_type, (uint8_t)type, memory_order_relaxed);
}

void *wsr_socket_user(const struct wsr_socket *socket)
{
    return socket->user;
}

void wsr_socket_set_user(struct wsr_socket *socket, void *user)
{
    socket->user = user;
}

uint32_t wsr_socket_ring(const struct wsr_socket *socket)
{
    const struct wsr_consumer *consumer = socket->worker->consumer;
    return (uint32_t)(consumer - consumer->engine->consumers);
}

/* ---- Numbers ---- */

/* The numbers below are read by any thread; each is exact, none orders anything else. */
static uint64_t load(const _Atomic uint64_t *number)
{
    return atomic_load_explicit(number, memory_order_relaxed);
}

static uint32_t load_few(const _Atomic uint32_t *number)
{
    return atomic_load_explicit(number, memory_order_relaxed);
}

static uint64_t load_span(const _Atomic uint32_t *span)
{
    return wsr_conn_span_ns(load_few(span));
}

int wsr_socket_statistics(const struct wsr_socket *socket, struct wsr_socket_statistics *out)
{
    if (socket == NULL || out == NULL || out->size < sizeof out->size)
        return wsr_error_set(WSR_ERR_ARGUMENT,
                             "wsr_socket_statistics needs a socket, and a structure with its size set");
    const struct wsr_link_counts *counts = &socket->link.counts;
    struct wsr_socket_statistics s = WSR_SOCKET_STATISTICS_INIT;
    /* Read first: it never overtakes the messages. Pairs with the release store in count_delivered() of
     * conn_receive.c. */
    s.messages_copied = atomic_load_explicit(&counts->copied, memory_order_acquire);
    s.messages_received = load(&counts->messages);
    s.messages_lent = s.messages_received - s.messages_copied;
    s.messages_received_bytes = load(&counts->messages_bytes);
    s.messages_sent = load(&counts->messages_sent);
    s.messages_sent_bytes = load(&counts->messages_sent_bytes);
    s.messages_sent_kernel_bytes = load(&socket->link.credited_bytes);
    s.wire_received_bytes = load(&counts->wire_received_bytes);
    s.wire_sent_bytes = load(&counts->wire_sent_bytes);
    s.addresses_tried = load_few(&counts->addresses_tried);
    s.rests = load_few(&counts->rests);
    s.pings_answered = load_few(&counts->pings_answered);
    s.pings_dropped = load_few(&counts->pings_dropped);
    s.pings_sent = load_few(&counts->pings_sent);
    s.pongs_received = load_few(&counts->pongs_received);
    s.rtt_ns = load_span(&counts->rtt_span);
    s.lookup_ns = load_span(&counts->lookup_span);
    s.connect_ns = load_span(&counts->connect_span);
    s.tls_ns = load_span(&counts->tls_span);
    s.upgrade_ns = load_span(&counts->upgrade_span);
    s.opened_ns = load(&counts->opened_ns);
    s.last_received_ns = load(&counts->last_received_ns);
    s.last_message_ns = load(&counts->last_message_ns);
    uint32_t size = out->size;
    memcpy(out, &s, size < sizeof s ? size : sizeof s);
    out->size = size;
    return 0;
}

/* ---- bufferedAmount ---- */

void wsr_socket_note_turn(struct wsr_socket *socket)
{
    uint32_t turn = atomic_load_explicit(&socket->worker->consumer->turn, memory_order_relaxed);
    if (atomic_load_explicit(&socket->seen_turn, memory_order_relaxed) == turn)
        return;
    atomic_store_explicit(&socket->credited_seen, load(&socket->link.credited_bytes), memory_order_release);
    atomic_store_explicit(&socket->seen_turn, turn, memory_order_relaxed);
}

uint64_t wsr_socket_buffered_amount(const struct wsr_socket *socket)
{
    /* Noting the turn is no change that a caller could see but for the number itself. */
    wsr_socket_note_turn((struct wsr_socket *)(uintptr_t)socket);
    /* Credit is read first: it never overtakes what was sent. Pairs with the store in wsr_socket_note_turn(). */
    uint64_t credited = atomic_load_explicit(&socket->credited_seen, memory_order_acquire);
    return load(&socket->link.sent_bytes) - credited;
}

uint64_t wsr_socket_buffered_now(const struct wsr_socket *socket)
{
    /* Credit is read first: it never overtakes what was sent. */
    uint64_t credited = atomic_load_explicit(&socket->link.credited_bytes, memory_order_acquire);
    return load(&socket->link.sent_bytes) - credited;
}

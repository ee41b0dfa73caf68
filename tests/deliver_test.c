/* engine/deliver: what fills event slots, and what comes back when the consumer has passed them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/deliver.h"
#include "tests/support/sim.h"

#define BUFFERS_COUNT 4u
#define BUFFER_BYTES 256u
#define EVENTS_COUNT 8u

static struct wsr_socket *const someone = (struct wsr_socket *)(void *)0x10;

struct bench {
    struct sim *sim;
    struct wsr_deliver deliver;
};

static void open_bench(struct bench *bench, uint64_t loan_max_bytes)
{
    struct wsr_pool_options options = { .buffers_count = BUFFERS_COUNT, .buffer_bytes = BUFFER_BYTES,
                                        .loan_max_bytes = loan_max_bytes };
    bench->sim = sim_create(1);
    bench->deliver = (struct wsr_deliver){ .now_ns = 77 };
    assert_int_equal(wsr_pool_create(&bench->deliver.pool, sim_driver(bench->sim), &options), 0);
    assert_int_equal(wsr_deliver_init(&bench->deliver, EVENTS_COUNT), 0);
}

static void close_bench(struct bench *bench)
{
    struct wsr_driver *driver = sim_driver(bench->sim);
    driver->ops->destroy(driver);
    wsr_pool_destroy(bench->deliver.pool);
    wsr_deliver_free(&bench->deliver);
    sim_free(bench->sim);
}

static struct wsr_loan *receive(struct bench *bench, uint16_t index)
{
    sim_take_buffer(bench->sim, index);
    return wsr_pool_received(bench->deliver.pool, index, BUFFER_BYTES);
}

static void message(struct bench *bench, struct wsr_loan *buffer, size_t from, size_t len)
{
    wsr_deliver_message(&bench->deliver, someone, WSR_BINARY, wsr_bytes_of(wsr_pool_bytes(buffer) + from, len), buffer,
                        NULL);
}

/* Take what is published; the event stays valid until pass(). */
static struct wsr_event *take(struct bench *bench)
{
    wsr_ring_spsc_publish(&bench->deliver.events);
    struct wsr_event *event = wsr_ring_spsc_peek(&bench->deliver.events);
    if (event != NULL)
        wsr_ring_spsc_take(&bench->deliver.events);
    return event;
}

static void pass(struct bench *bench)
{
    wsr_ring_spsc_release(&bench->deliver.events);
    wsr_deliver_reclaim(&bench->deliver);
}

static void a_message_is_lent_until_it_is_passed(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, 1000);
    struct wsr_loan *buffer = receive(&bench, 1);
    message(&bench, buffer, 2, 10);
    message(&bench, buffer, 12, 20);
    wsr_pool_unuse(buffer);
    struct wsr_event *first = take(&bench);
    assert_int_equal(first->type, WSR_EVENT_MESSAGE);
    assert_int_equal(first->kind, WSR_BINARY);
    assert_ptr_equal(first->data, wsr_pool_bytes(buffer) + 2);
    assert_int_equal(first->len, 10);
    assert_int_equal(first->received_ns, 77);
    assert_ptr_equal(first->socket, someone);
    assert_string_equal(first->text, "");
    pass(&bench);
    assert_int_equal(sim_buffers_home(bench.sim), BUFFERS_COUNT - 1);      /* the second event still points there */
    assert_int_equal(take(&bench)->len, 20);
    pass(&bench);
    assert_int_equal(sim_buffers_home(bench.sim), BUFFERS_COUNT);
    assert_null(take(&bench));
    close_bench(&bench);
}

static void messages_are_copied_while_buffers_are_scarce(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, 1000);
    struct wsr_loan *buffers[3];
    uint8_t bytes[BUFFER_BYTES];
    for (uint16_t i = 0; i < 3; i++) {
        buffers[i] = receive(&bench, i);
        memcpy(bytes, wsr_pool_bytes(buffers[i]), sizeof bytes);
        message(&bench, buffers[i], 0, BUFFER_BYTES);
        wsr_pool_unuse(buffers[i]);
    }
    /* Two of four may be out; the third is copied and its buffer is home at once. */
    assert_int_equal(sim_buffers_home(bench.sim), 2);
    assert_ptr_equal(take(&bench)->data, wsr_pool_bytes(buffers[0]));
    assert_ptr_equal(take(&bench)->data, wsr_pool_bytes(buffers[1]));
    assert_true(wsr_pool_loan_bytes(bench.deliver.pool) >= BUFFER_BYTES);
    struct wsr_event *copied = take(&bench);
    assert_ptr_not_equal(copied->data, wsr_pool_bytes(buffers[2]));
    assert_memory_equal(copied->data, bytes, sizeof bytes);
    pass(&bench);
    assert_int_equal(wsr_pool_loan_bytes(bench.deliver.pool), 0);
    assert_int_equal(sim_buffers_home(bench.sim), BUFFERS_COUNT);
    close_bench(&bench);
}

static void room_ends_with_the_ring_and_with_the_memory_of_copies(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, 512);
    for (unsigned i = 0; i < EVENTS_COUNT - 2; i++) {
        assert_true(wsr_deliver_has_message_room(&bench.deliver));
        wsr_deliver_plain(&bench.deliver, someone, WSR_EVENT_OPEN);
    }
    /* Two slots stay free for an end. */
    assert_false(wsr_deliver_has_message_room(&bench.deliver));
    assert_true(wsr_deliver_has_room(&bench.deliver, 2));
    while (take(&bench) != NULL)
        pass(&bench);
    struct wsr_loan *block = wsr_pool_block(bench.deliver.pool, 512);
    assert_true(wsr_deliver_has_message_room(&bench.deliver));              /* gathered, not yet lent */
    wsr_deliver_message(&bench.deliver, someone, WSR_TEXT, wsr_bytes_of(wsr_pool_block_bytes(block), 512), NULL,
                        wsr_pool_block_bytes(block));
    assert_false(wsr_deliver_has_message_room(&bench.deliver));
    assert_non_null(take(&bench));
    pass(&bench);
    assert_true(wsr_deliver_has_message_room(&bench.deliver));
    close_bench(&bench);
}

/* EVT-03: error directly before close, and only when something failed. */
static void an_end_is_told_once_with_its_cause(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, 1000);
    struct wsr_deliver_end failed = { .failure_text = "why", .system_errno = 5, .http_status = 404, .code = 1006,
                                      .stage = WSR_STAGE_UPGRADE };
    wsr_deliver_close(&bench.deliver, someone, &failed);
    for (unsigned type = WSR_EVENT_ERROR; type <= WSR_EVENT_CLOSE; type++) {
        struct wsr_event *event = take(&bench);
        assert_int_equal(event->type, type);
        assert_string_equal(event->text, "why");
        assert_int_equal(event->system_errno, 5);
        assert_int_equal(event->http_status, 404);
        assert_int_equal(event->stage, WSR_STAGE_UPGRADE);
    }
    struct wsr_deliver_end clean = { .code = 4000, .was_clean = true, .reason_bytes = 3,
                                     .reason = wsr_pool_block(bench.deliver.pool, 3) };
    memcpy(wsr_pool_block_bytes(clean.reason), "bye", 3);
    wsr_deliver_close(&bench.deliver, someone, &clean);
    struct wsr_event *event = take(&bench);
    assert_int_equal(event->type, WSR_EVENT_CLOSE);
    assert_int_equal(event->code, 4000);
    assert_true(event->was_clean);
    assert_memory_equal(event->data, "bye", 3);
    pass(&bench);
    assert_null(take(&bench));
    close_bench(&bench);
}

static void a_position_is_passed_when_the_consumer_is_done(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, 1000);
    assert_true(wsr_deliver_has_passed(&bench.deliver, wsr_deliver_position(&bench.deliver)));
    wsr_deliver_plain(&bench.deliver, someone, WSR_EVENT_WRITABLE);
    uint32_t position = wsr_deliver_position(&bench.deliver);
    assert_false(wsr_deliver_has_passed(&bench.deliver, position));
    take(&bench);
    wsr_deliver_reclaim(&bench.deliver);
    assert_false(wsr_deliver_has_passed(&bench.deliver, position));          /* taken, but its handler may still run */
    pass(&bench);
    assert_true(wsr_deliver_has_passed(&bench.deliver, position));
    close_bench(&bench);
}

/* A run gives the same events as one message after the other, and stops where they would. */
static void a_run_of_messages_is_like_each_alone(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, 1000);
    struct wsr_loan *buffer = receive(&bench, 1);
    const uint8_t *bytes = wsr_pool_bytes(buffer);
    assert_int_equal(wsr_deliver_run_room(&bench.deliver), EVENTS_COUNT - 2);
    struct wsr_deliver_run run = wsr_deliver_begin_run(&bench.deliver, someone, buffer);
    wsr_deliver_push_run(&run, WSR_TEXT, wsr_bytes_of(bytes, 5));
    wsr_deliver_push_run(&run, WSR_BINARY, wsr_bytes_of(bytes + 5, 7));
    assert_null(take(&bench));                                      /* nothing before its end */
    wsr_deliver_end_run(&bench.deliver, &run);
    assert_int_equal(wsr_deliver_run_room(&bench.deliver), EVENTS_COUNT - 4);
    assert_int_equal(bench.deliver.messages, 2);
    assert_int_equal(bench.deliver.messages_bytes, 12);
    wsr_pool_unuse(buffer);
    struct wsr_event in_run = *take(&bench);
    pass(&bench);
    assert_int_equal(sim_buffers_home(bench.sim), BUFFERS_COUNT - 1);
    message(&bench, buffer, 0, 5);
    struct wsr_event alone = *take(&bench);                         /* the second of the run */
    assert_int_equal(alone.kind, WSR_BINARY);
    assert_int_equal(alone.len, 7);
    alone = *take(&bench);
    alone.kind = WSR_TEXT;
    assert_string_equal(in_run.text, alone.text);
    alone.text = in_run.text;
    assert_memory_equal(&in_run, &alone, sizeof alone);
    pass(&bench);
    assert_int_equal(sim_buffers_home(bench.sim), BUFFERS_COUNT);
    struct wsr_deliver_run empty = wsr_deliver_begin_run(&bench.deliver, someone, buffer);
    wsr_deliver_end_run(&bench.deliver, &empty);
    assert_null(take(&bench));
    assert_int_equal(sim_buffers_home(bench.sim), BUFFERS_COUNT);
    close_bench(&bench);
}

/* What two buffers lend in turns comes home buffer by buffer, over many laps of the ring. */
static void buffers_come_home_in_the_order_of_their_last_events(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, 1000);
    for (unsigned lap = 0; lap < 50; lap++) {
        struct wsr_loan *a = receive(&bench, 0), *b = receive(&bench, 1);
        message(&bench, a, 0, 10);
        message(&bench, b, 0, 10);
        message(&bench, a, 10, 10);
        wsr_deliver_plain(&bench.deliver, someone, WSR_EVENT_WRITABLE);
        wsr_pool_unuse(a);
        wsr_pool_unuse(b);
        static const unsigned home[] = { 2, 3, 4, 4 };
        for (unsigned i = 0; i < 4; i++) {
            assert_non_null(take(&bench));
            pass(&bench);
            assert_int_equal(sim_buffers_home(bench.sim), home[i]);
        }
    }
    close_bench(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_lent_until_it_is_passed),
        cmocka_unit_test(messages_are_copied_while_buffers_are_scarce),
        cmocka_unit_test(room_ends_with_the_ring_and_with_the_memory_of_copies),
        cmocka_unit_test(an_end_is_told_once_with_its_cause),
        cmocka_unit_test(a_run_of_messages_is_like_each_alone),
        cmocka_unit_test(buffers_come_home_in_the_order_of_their_last_events),
        cmocka_unit_test(a_position_is_passed_when_the_consumer_is_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

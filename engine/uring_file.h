/* Sockets as plain descriptors, and which of them are open. A part of the io_uring driver. */
#ifndef WSR_URING_FILE_H
#define WSR_URING_FILE_H

#include "driver.h"

struct wsr_uring_files {
    uint8_t *open;                /* one bit per descriptor that is not closed yet; grows with the highest */
    size_t bytes;
    uint32_t open_count;
    uint64_t *accepts;            /* tokens of accepts in flight: their results are new files */
    unsigned accepts_count, accepts_room;
};

/* Make a descriptor as @setup says, which stays the caller's. It or -errno. */
int wsr_uring_file_make(const struct wsr_driver_setup *setup);

/* As the operations of the same name in driver.h. */
wsr_file wsr_uring_file_open(struct wsr_uring_files *files, const struct wsr_driver_setup *setup);
wsr_file wsr_uring_file_listen(struct wsr_uring_files *files, const struct sockaddr *address, socklen_t address_bytes,
                               int backlog, uint16_t *port);
void wsr_uring_file_close(struct wsr_uring_files *files, wsr_file file);

/* Completions with @token bring new descriptors, until one without MORE. 0 or -ENOMEM. */
int wsr_uring_file_expect(struct wsr_uring_files *files, uint64_t token);
/* Does @done bring one? */
bool wsr_uring_file_is_accepted(struct wsr_uring_files *files, const struct wsr_completion *done);
/* Take over an open descriptor. Returns it, or -ENOMEM with the descriptor closed. */
wsr_file wsr_uring_file_keep(struct wsr_uring_files *files, int fd);

void wsr_uring_file_close_all(struct wsr_uring_files *files);     /* and forget them */

#endif

/* Is this a build whose sanitizer brings its own malloc and locks, which no test may replace or count? */
#ifndef OWN_MALLOC_H
#define OWN_MALLOC_H

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_OWN_MALLOC 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_OWN_MALLOC 1
#endif

#endif

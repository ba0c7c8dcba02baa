/*
 * driver.c: the workloads of package bench, in C, over malloc and free.
 *
 *   driver random_mixed|tiny_hot [--min N --max N --ws N --iters N --threads N
 *                                 --seed N] [--empty] [--hash]
 *
 * Which allocator is measured is decided from outside, with LD_PRELOAD; the
 * output names the library that malloc came from. One line of JSON is printed,
 * with the field names of bench.Run. --empty runs the loop without allocator,
 * --hash prints a hash of random_mixed's operations instead of running them.
 *
 * The loops are those of bench/loops_gen.go, statement by statement: where one
 * changes, so must the other.
 */
#define _GNU_SOURCE /* dladdr, RTLD_DEFAULT, RUSAGE_THREAD */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

enum {
	HOT_BATCH = 100, /* tiny_hot: blocks in a batch */
	HOT_SIZE = 32,   /* and their size in bytes */
	SLOT_PAD = 16,   /* unused slots behind a thread's last: two cache lines */
};

struct params {
	uint64_t min, max, ws, iters, threads, seed;
};

struct worker {
	struct params p;
	uint32_t seed;
	uintptr_t *slots; /* mapped, not allocated: the allocator is not to see them */
	char *scratch;    /* the empty loop's only block */
	double start, stop;
	uint64_t faults; /* minor page faults of the loop */
	pthread_t thread;
};

/* All threads start their loops at once, and none frees its last blocks before
 * all loops have ended. */
static pthread_barrier_t opened, finished;

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void fail(const char *what) {
	fprintf(stderr, "driver: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* pages returns n zeroed bytes whose pages have been touched. */
static void *pages(size_t n) {
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		fail("mmap");
	memset(p, 0, n);
	return p;
}

static uint64_t thread_faults(void) {
	struct rusage u;
	getrusage(RUSAGE_THREAD, &u);
	return (uint64_t)u.ru_minflt;
}

static void begin(struct worker *w) {
	w->faults = thread_faults();
	pthread_barrier_wait(&opened);
	w->start = now();
}

static void end(struct worker *w) {
	w->stop = now();
	w->faults = thread_faults() - w->faults;
	pthread_barrier_wait(&finished);
}

/* The empty loop's allocator. The asm keeps the compiler from dropping the
 * free; malloc and free themselves are not known to it (-fno-builtin). */
#define SCRATCH(n) (w->scratch)
#define DISCARD(p) __asm__ volatile("" : : "r"(p))

#define MIXED(NAME, MALLOC, FREE)                                        \
	static void *NAME(void *arg) {                                   \
		struct worker *w = arg;                                  \
		uintptr_t *slots = w->slots;                             \
		uint32_t x = w->seed;                                    \
		uint64_t ws = w->p.ws, low = w->p.min;                   \
		uint64_t span = w->p.max - w->p.min + 1;                 \
		begin(w);                                                \
		for (uint64_t n = w->p.iters; n != 0; n--) {             \
			x ^= x << 13;                                    \
			x ^= x >> 17;                                    \
			x ^= x << 5;                                     \
			uintptr_t *s = &slots[(uint64_t)x * ws >> 32];   \
			if (*s != 0) {                                   \
				FREE((void *)*s);                        \
				*s = 0;                                  \
			} else {                                         \
				x ^= x << 13;                            \
				x ^= x >> 17;                            \
				x ^= x << 5;                             \
				size_t size = low + ((uint64_t)x * span >> 32); \
				volatile char *p = MALLOC(size);         \
				p[0] = 1;                                \
				p[size - 1] = 1;                         \
				*s = (uintptr_t)p;                       \
			}                                                \
		}                                                        \
		end(w);                                                  \
		for (uint64_t i = 0; i < ws; i++)                        \
			if (slots[i] != 0)                               \
				FREE((void *)slots[i]);                  \
		return NULL;                                             \
	}

#define HOT(NAME, MALLOC, FREE)                                          \
	static void *NAME(void *arg) {                                   \
		struct worker *w = arg;                                  \
		void *slots[HOT_BATCH];                                  \
		uint64_t ops = 2 * HOT_BATCH;                            \
		begin(w);                                                \
		for (uint64_t n = (w->p.iters + ops - 1) / ops; n != 0; n--) { \
			for (int i = 0; i < HOT_BATCH; i++) {            \
				volatile char *p = MALLOC(HOT_SIZE);     \
				p[0] = 1;                                \
				slots[i] = (void *)p;                    \
			}                                                \
			for (int i = HOT_BATCH - 1; i >= 0; i--)         \
				FREE(slots[i]);                          \
		}                                                        \
		end(w);                                                  \
		return NULL;                                             \
	}

MIXED(mixed_malloc, malloc, free)
MIXED(mixed_empty, SCRATCH, DISCARD)
HOT(hot_malloc, malloc, free)
HOT(hot_empty, SCRATCH, DISCARD)

/* thread_seed is seed+i, never 0: that is the fixed point of xorshift. */
static uint32_t thread_seed(const struct params *p, uint64_t i) {
	uint32_t s = (uint32_t)p->seed + (uint32_t)i;
	return s != 0 ? s : 2463534242u;
}

/* sequence_hash is bench.Params.SequenceHash. */
static uint64_t sequence_hash(const struct params *p) {
	char *full = pages(p->ws);
	uint64_t h = 14695981039346656037u;
	uint32_t x = thread_seed(p, 0);
	for (uint64_t n = p->iters; n != 0; n--) {
		uint64_t word[3] = {0, 0, 0};
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		uint64_t slot = (uint64_t)x * p->ws >> 32;
		if (!full[slot]) {
			x ^= x << 13;
			x ^= x >> 17;
			x ^= x << 5;
			word[0] = 1;
			word[1] = p->min + ((uint64_t)x * (p->max - p->min + 1) >> 32);
		}
		word[2] = slot;
		full[slot] = !full[slot];
		for (int i = 0; i < 3; i++)
			h = (h ^ word[i]) * 1099511628211u;
	}
	return h;
}

/* status reads one figure of /proc/self/status, in bytes; 0 if there is none. */
static uint64_t status(const char *name) {
	char line[256];
	unsigned long long kib = 0;
	FILE *f = fopen("/proc/self/status", "r");
	if (f == NULL)
		return 0;
	while (fgets(line, sizeof line, f) != NULL)
		if (strncmp(line, name, strlen(name)) == 0)
			sscanf(line + strlen(name), ": %llu", &kib);
	fclose(f);
	return (uint64_t)kib << 10;
}

/* version asks the allocator in force for its version. */
static const char *version(void) {
	static char text[64];
	int (*mi_version)(void);
	int (*mallctl)(const char *, void *, size_t *, void *, size_t);
	const char *(*tc_version)(int *, int *, const char **);
	const char *(*gnu_get_libc_version)(void);
	/* POSIX's way to store dlsym's result in a function pointer */
	*(void **)&mi_version = dlsym(RTLD_DEFAULT, "mi_version");
	*(void **)&mallctl = dlsym(RTLD_DEFAULT, "mallctl");
	*(void **)&tc_version = dlsym(RTLD_DEFAULT, "tc_version");
	*(void **)&gnu_get_libc_version = dlsym(RTLD_DEFAULT, "gnu_get_libc_version");
	if (mi_version != NULL) {
		int v = mi_version(); /* 209 is 2.0.9; from 10000 on, 3.4.13 is 30413 */
		if (v < 10000)
			snprintf(text, sizeof text, "mimalloc %d.%d.%d", v / 100, v / 10 % 10, v % 10);
		else
			snprintf(text, sizeof text, "mimalloc %d.%d.%d", v / 10000, v / 100 % 100, v % 100);
		return text;
	}
	if (mallctl != NULL) {
		const char *v = NULL;
		size_t n = sizeof v;
		if (mallctl("version", &v, &n, NULL, 0) == 0 && v != NULL)
			snprintf(text, sizeof text, "jemalloc %.20s", v);
		return text;
	}
	if (tc_version != NULL) {
		int major, minor;
		const char *patch;
		snprintf(text, sizeof text, "%s", tc_version(&major, &minor, &patch));
		return text;
	}
	if (gnu_get_libc_version != NULL)
		snprintf(text, sizeof text, "glibc %s", gnu_get_libc_version());
	return text;
}

/* malloc_from names the file that malloc was taken from. */
static const char *malloc_from(void) {
	Dl_info info;
	void *m = dlsym(RTLD_DEFAULT, "malloc");
	if (m == NULL || dladdr(m, &info) == 0 || info.dli_fname == NULL)
		return "";
	return info.dli_fname;
}

static void usage(const char *why, const char *what) {
	fprintf(stderr, "driver: %s \"%s\"\n"
		"usage: driver random_mixed|tiny_hot [--min N] [--max N] [--ws N] "
		"[--iters N] [--threads N] [--seed N] [--empty] [--hash]\n", why, what);
	exit(2);
}

int main(int argc, char **argv) {
	struct params p = {16, 1024, 400, 20000000, 1, 1}; /* as bench.Default */
	const struct { const char *name; uint64_t *value; } numbers[] = {
		{"--min", &p.min}, {"--max", &p.max}, {"--ws", &p.ws},
		{"--iters", &p.iters}, {"--threads", &p.threads}, {"--seed", &p.seed},
	};
	const size_t count = sizeof numbers / sizeof numbers[0];
	const char *workload = NULL;
	int empty = 0, hash = 0;
	for (int i = 1; i < argc; i++) {
		size_t k = 0;
		while (k < count && strcmp(argv[i], numbers[k].name) != 0)
			k++;
		if (k < count) {
			if (i + 1 == argc)
				usage("no number after", argv[i]);
			char *rest;
			errno = 0;
			*numbers[k].value = strtoull(argv[++i], &rest, 10);
			if (errno != 0 || *argv[i] == '\0' || *argv[i] == '-' || *rest != '\0' || *numbers[k].value == 0)
				usage("not a number above 0:", argv[i]);
		} else if (strcmp(argv[i], "--empty") == 0) {
			empty = 1;
		} else if (strcmp(argv[i], "--hash") == 0) {
			hash = 1;
		} else if (workload == NULL && argv[i][0] != '-') {
			workload = argv[i];
		} else {
			usage("unknown argument", argv[i]);
		}
	}
	if (workload == NULL)
		usage("no workload given;", "random_mixed or tiny_hot");
	int hot = strcmp(workload, "tiny_hot") == 0;
	if (!hot && strcmp(workload, "random_mixed") != 0)
		usage("unknown workload", workload);
	if (p.min > p.max)
		usage("--min is above --max in", workload);
	if (hash) {
		printf("%llu\n", (unsigned long long)sequence_hash(&p));
		return 0;
	}

	void *(*loop)(void *) = hot ? (empty ? hot_empty : hot_malloc) : (empty ? mixed_empty : mixed_malloc);
	pthread_barrier_init(&opened, NULL, (unsigned)p.threads);
	pthread_barrier_init(&finished, NULL, (unsigned)p.threads);
	struct worker *w = pages(p.threads * sizeof *w);
	for (uint64_t i = 0; i < p.threads; i++) {
		w[i].p = p;
		w[i].seed = thread_seed(&p, i);
		w[i].slots = pages((p.ws + SLOT_PAD) * sizeof(uintptr_t));
		w[i].scratch = pages(p.max > HOT_SIZE ? p.max : HOT_SIZE);
	}
	uint64_t idle = status("VmRSS");
	/* A single thread is the main one: glibc takes its locks only in a process
	 * that has more. */
	if (p.threads == 1)
		loop(&w[0]);
	else
		for (uint64_t i = 0; i < p.threads; i++)
			if ((errno = pthread_create(&w[i].thread, NULL, loop, &w[i])) != 0)
				fail("pthread_create");
	for (uint64_t i = 0; i < p.threads && p.threads > 1; i++)
		pthread_join(w[i].thread, NULL);

	double first = w[0].start, last = w[0].stop;
	uint64_t faults = w[0].faults;
	for (uint64_t i = 1; i < p.threads; i++) {
		first = w[i].start < first ? w[i].start : first;
		last = w[i].stop > last ? w[i].stop : last;
		faults += w[i].faults;
	}
	/* Linux notes a peak only now and then: what was seen counts as well. */
	uint64_t peak = status("VmHWM"), rss = status("VmRSS");
	peak = peak > idle ? peak : idle;
	double seconds = last - first > 1e-9 ? last - first : 1e-9;
	uint64_t batch = 2 * HOT_BATCH;
	uint64_t each = hot ? (p.iters + batch - 1) / batch * batch : p.iters;
	double ops = (double)each * (double)p.threads;
	printf("{\"seconds\":%.9f,\"ops_per_s\":%.1f,\"ns_per_op\":%.6f,"
	       "\"peak_rss_bytes\":%llu,\"idle_rss_bytes\":%llu,\"end_rss_bytes\":%llu,"
	       "\"minor_faults\":%llu,\"version\":\"%s\",\"malloc_from\":\"%s\"}\n",
	       seconds, ops / seconds, seconds * 1e9 / ops,
	       (unsigned long long)peak, (unsigned long long)idle,
	       (unsigned long long)rss, (unsigned long long)faults, version(), malloc_from());
	return 0;
}

/*
 * common.h: what the loops use: parameters, workers, random numbers, threads.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	HOT_BATCH = 100, /* tiny_hot: blocks in a batch */
	HOT_SIZE = 32,   /* and their size in bytes */
	SLOT_PAD = 16,   /* unused slots behind a thread's last: two cache lines */
};

/* The fields of bench.Params; 0: not given. */
struct params {
	uint64_t min, max, ws, iters, rounds, alive, stride, threads, seed;
	const char *tape;
};

struct observer;

struct worker {
	struct params p;
	uint64_t id;
	uint32_t seed;
	char *scratch; /* the empty loop's only block */
	struct observer *obs;
	struct shared *shared;
	struct worker *partner; /* for the loops whose threads have a second one: runs from begin to end */
	double start, stop;
	uint64_t sum;    /* keeps reads of blocks from being dropped */
	pthread_t thread;
};

/* A stack of numbers, for several threads. */
struct stack {
	pthread_mutex_t mu;
	pthread_cond_t some; /* there is one again */
	uint32_t *items;
	uint64_t count;
};

/* A part of a loop that has several, as in ../result/run.go. */
struct lap {
	const char *name;
	double seconds, cpu;
	uint64_t faults, rss;
};

enum { MAX_LAPS = 16 }; /* growth has 7 */

/* What the threads have in common. */
struct shared {
	pthread_barrier_t barrier; /* for the loops' own use */
	/* All threads start their loops at once, and none frees its last blocks
	 * before all loops have ended and the process has been looked at. */
	pthread_barrier_t ready, opened, finished, looked;
	uint64_t idle_rss, peak_rss;  /* bytes */
	uint64_t faults;              /* minor page faults of the timed part */
	uint64_t begin_ns, end_ns;    /* its bounds, of CLOCK_MONOTONIC */
	void **pointers; /* slots through which threads hand blocks to each other */
	struct tape *tape;
	_Atomic uint32_t *turns; /* of the tape's slots: the next operation's seq */
	uint32_t *sizes;         /* mstress: of the blocks; rptest: to draw from */
	_Atomic uint32_t *mail;  /* mstress: the transfers; rptest: the mailboxes */
	struct stack idle, full; /* xmalloc's batches, by number */
	uint64_t linger_ms;      /* for how long rest sleeps */
	struct lap laps[MAX_LAPS]; /* of a loop in parts */
	uint64_t lap_count;
	double lap_start, lap_cpu; /* when the current one began, in seconds */
	uint64_t lap_faults;
};

struct loop {
	const char *name;
	void (*run)(struct worker *);
};

/* mixed_counts are the blocks of a round of mixed. */
static const struct {
	uint64_t size, count;
} mixed_counts[] = {{64 << 10, 1000}, {256 << 10, 100}, {2 << 20, 10}};

static void fail(const char *what) {
	fprintf(stderr, "driver: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint64_t now_ns(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* pages returns n zeroed bytes whose pages have been touched: mapped, not
 * allocated, for the allocator is not to see them. */
static void *pages(size_t n) {
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		fail("mmap");
	memset(p, 0, n);
	return p;
}

static uint64_t batches(const struct params *p) {
	const uint64_t ops = 2 * HOT_BATCH;
	return (p->iters + ops - 1) / ops;
}

/* thread_seed is seed+i, never 0: that is the fixed point of xorshift. */
static uint32_t thread_seed(const struct params *p, uint64_t i) {
	uint32_t s = (uint32_t)p->seed + (uint32_t)i;
	return s != 0 ? s : 2463534242u;
}

/* random_start, step and below are worker.random, step and below of bench.go. */
static inline uint64_t random_start(const struct worker *w) {
	uint64_t x = (uint64_t)w->seed + 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	x ^= x >> 31;
	return x != 0 ? x : 1;
}

static inline uint64_t step(uint64_t x) {
	x ^= x << 13;
	x ^= x >> 7;
	return x ^ x << 17;
}

static inline uint64_t below(uint64_t x, uint64_t n) { return (x >> 32) * n >> 32; }

/* fill_words writes v into the n/8 words at p; sum_words adds them up. */
static inline void fill_words(void *p, size_t n, uint64_t v) {
	volatile uint64_t *words = p;
	for (size_t i = 0; i < n / 8; i++)
		words[i] = v;
}

static inline uint64_t sum_words(void *p, size_t n) {
	volatile uint64_t *words = p;
	uint64_t sum = 0;
	for (size_t i = 0; i < n / 8; i++)
		sum += words[i];
	return sum;
}

/* What the loops draw sizes and slots with, and their fixed numbers, as in
 * ../draw.go, which explains them. */
static const uint64_t pareto_shares[7] = {262144, 393216, 245760, 81920, 15360, 1536, 64};

struct pareto {
	uint64_t last[6];
	struct {
		uint64_t first, count;
	} class[8];
};

static void new_pareto(struct pareto *t, uint64_t n) {
	uint64_t draws = 0, slots = 0;
	for (int k = 0; k < 7; k++) {
		draws += pareto_shares[k];
		if (k < 6)
			t->last[k] = (draws << 32) / 1000000 - 1;
		uint64_t first = slots * n / 1000000;
		slots += pareto_shares[6 - k];
		uint64_t count = slots * n / 1000000 - first;
		t->class[k].first = first < n - 1 ? first : n - 1;
		t->class[k].count = count > 1 ? count : 1;
	}
}

static inline uint64_t pareto_slot(const struct pareto *t, uint64_t x) {
	uint64_t k = 0;
	for (int i = 0; i < 6; i++)
		k += (t->last[i] - (x >> 32)) >> 63;
	return t->class[k & 7].first + ((uint32_t)x * t->class[k & 7].count >> 32);
}

static uint64_t top_level(uint64_t low, uint64_t high) { return (uint64_t)1 << (63 - __builtin_clzll(high / low)); }

static inline size_t level_size(uint64_t x, uint64_t low, uint64_t high, uint64_t top) {
	uint64_t from = low << __builtin_ctzll(x | top), size = from + below(x, from);
	return size < high ? size : high;
}

static inline uint64_t sh6_repeats(uint64_t size) { return size >= 1000 ? 10 : size >= 100 ? 50 : 250; }

struct sh6_buffer {
	uint64_t limit, saved, past, hand;
};

static int sh6_skip(struct sh6_buffer *b, uint64_t ws) {
	if (b->limit != b->saved || b->past == ws)
		return 0;
	b->limit = ws;
	return 1;
}

static void sh6_save(struct sh6_buffer *b, uint64_t ws) {
	b->saved = b->past + ws / 5 > ws || b->past == ws ? 0 : b->past;
	b->past = b->saved + ws / 5;
}

static uint64_t sh6_first(struct sh6_buffer *b, uint64_t ws) {
	b->limit = b->saved == 0 ? ws : b->saved;
	return b->saved == 0 ? b->past : 0;
}

enum { SH8_EVERY = 4, SH8_TABLE = 1000 };

static uint64_t cache_writes(const struct params *p) {
	uint64_t n = p->iters / p->threads;
	return n > 1 ? n : 1;
}

/* bump adds 1 to the byte at p, n times. */
static __attribute__((noinline)) void bump(char *p, uint64_t n) {
	for (volatile char *b = p; n != 0; n--)
		++*b;
}

static const uint64_t simple_counts[4] = {25, 100, 400, 1600};

static uint64_t simple_batches(const struct params *p, uint64_t count) { return (p->iters + count - 1) / count; }

enum { THREAD_SIZES = 8000 };

static uint64_t inverse_squares(uint32_t *sizes, uint64_t x, uint64_t low, uint64_t high) {
	double least = 1 / (double)low, most = 1 / (double)high;
	for (int i = 0; i < THREAD_SIZES; i++) {
		x = step(x);
		/* in two statements: no compiler fuses the operations then */
		double inverse = (most - least) * ((double)(x >> 32) / 4294967296.0);
		inverse = inverse + least;
		uint64_t size = (uint64_t)(1 / inverse);
		sizes[i] = (uint32_t)(size < low ? low : size > high ? high : size);
	}
	return x;
}

enum { LEAK_THREADS = 10, LEAK_SIZE = 128 };

/* alone runs f(arg) in a new thread and waits for it. */
struct call {
	void (*f)(void *);
	void *arg;
};

static void *make_call(void *arg) {
	struct call *c = arg;
	c->f(c->arg);
	return NULL;
}

static void alone(void (*f)(void *), void *arg) {
	struct call c = {f, arg};
	pthread_t t;
	if ((errno = pthread_create(&t, NULL, make_call, &c)) != 0)
		fail("pthread_create");
	pthread_join(t, NULL);
}

/* concurrently starts f(arg) in a new thread, for which join waits. */
static void concurrently(struct worker *w, struct call *c) {
	if ((errno = pthread_create(&w->thread, NULL, make_call, c)) != 0)
		fail("pthread_create");
}

static void join(struct worker *w) { pthread_join(w->thread, NULL); }

/* The following are the functions and numbers of ../stress.go. */
enum { MSTRESS_TRANSFERS = 1000, MSTRESS_GROW = 100000, MSTRESS_LARGEST = 64 * 8 * 10000 };

static uint64_t mstress_allocs(const struct params *p, uint64_t i) { return 100 * p->ws * (i % 8 + 1); }

static uint64_t mstress_record(const struct params *p, uint64_t i) {
	uint64_t n = 1 + 2 * MSTRESS_TRANSFERS;
	for (uint64_t k = 0; k < i; k++) {
		uint64_t a = mstress_allocs(p, k);
		n += a + a / 2;
	}
	return n;
}

static inline size_t mstress_size(uint64_t *x, uint64_t shifts) {
	*x = step(*x);
	size_t size = (size_t)8 << below(*x, shifts);
	*x = step(*x);
	if (below(*x, 100) == 0) {
		*x = step(*x);
		uint64_t v = below(*x, 100);
		size *= v < 1 ? 10000 : v < 11 ? 1000 : 100;
	}
	return size;
}

enum { XMALLOC_BATCH = 4096, XMALLOC_BATCHES = 100, XMALLOC_FILLED = 128 };

static const uint32_t xmalloc_sizes[] = {8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048};

enum { RPTEST_SIZES = 2000, RPTEST_CROSS = 2 };

static uint64_t rptest_stride(uint64_t n, uint64_t i) {
	static const uint64_t primes[] = {157, 211, 263, 307, 379};
	const uint64_t count = sizeof primes / sizeof *primes;
	while (n % primes[i % count] == 0)
		i++;
	return primes[i % count] % n;
}

static uint32_t *rptest_table(const struct worker *w) {
	uint32_t *sizes = pages(RPTEST_SIZES * sizeof *sizes);
	uint64_t x = random_start(w), span = w->p.max - w->p.min + 1;
	for (int i = 0; i < RPTEST_SIZES; i++) {
		x = step(x);
		uint64_t size = below(x, span);
		x = step(x);
		uint64_t other = below(x, span);
		sizes[i] = (uint32_t)(w->p.min + (size < other ? size : other));
	}
	return sizes;
}

struct rptest_draw {
	const uint32_t *sizes;
	uint64_t at, pace;
};

static inline uint64_t wrap(uint64_t i, uint64_t n) { return i >= n ? i - n : i; }

static const uint64_t frag_sizes[] = {64, 96, 160, 256};

enum { FRAG_SIZES = sizeof frag_sizes / sizeof *frag_sizes };

enum { PHASE_FACTOR = 64 };

static uint64_t growth_kept(uint64_t ws) { return ws / 10; }

static void stack_init(struct stack *s, uint32_t n, uint32_t filled) {
	pthread_mutex_init(&s->mu, NULL);
	pthread_cond_init(&s->some, NULL);
	s->items = pages(n * sizeof *s->items);
	for (s->count = 0; s->count < filled; s->count++)
		s->items[s->count] = (uint32_t)s->count;
}

static uint32_t stack_take(struct stack *s) {
	pthread_mutex_lock(&s->mu);
	while (s->count == 0)
		pthread_cond_wait(&s->some, &s->mu);
	uint32_t i = s->items[--s->count];
	pthread_mutex_unlock(&s->mu);
	return i;
}

static void stack_put(struct stack *s, uint32_t i) {
	pthread_mutex_lock(&s->mu);
	s->items[s->count++] = i;
	pthread_cond_signal(&s->some);
	pthread_mutex_unlock(&s->mu);
}

/* scratch_size is the size of the empty loop's only block. */
static uint64_t scratch_size(const char *loop, const struct params *p) {
	uint64_t size = 2 << 20; /* mixed's largest, and more than the fixed sizes of most loops */
	uint64_t needed = p->max;
	if (strcmp(loop, "mstress") == 0) {
		uint64_t array = 8 * (mstress_allocs(p, 7) + MSTRESS_GROW);
		needed = array > MSTRESS_LARGEST ? array : MSTRESS_LARGEST;
	} else if (strcmp(loop, "phase") == 0) {
		needed = PHASE_FACTOR * p->max;
	}
	return needed > size ? needed : size;
}

/* A tape: the file format of package bench/trace. */
enum { OP_MALLOC, OP_CALLOC, OP_REALLOC, OP_MEMALIGN, OP_FREE };

struct op {
	uint64_t size;
	uint32_t slot, seq, thread;
	uint8_t kind, align; /* align: its binary logarithm */
	uint16_t pad;
};

struct tape_header {
	char magic[8];
	uint32_t version, threads;
	uint64_t slots, ops, initial, peak_live, spare[2];
};

struct tape {
	uint64_t threads, slots;
	struct {
		struct op *ops;
		uint64_t count, initial;
	} *thread;
};

/* load_tape reads the file, which package trace has checked, and parts its
 * operations by thread. It sets p->max to the largest size. */
static void load_tape(struct params *p, struct shared *s) {
	int fd = open(p->tape, O_RDONLY);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) != 0)
		fail(p->tape);
	char *file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (file == MAP_FAILED)
		fail(p->tape);
	const struct tape_header *h = (const void *)file;
	const struct op *ops = (const void *)(file + sizeof *h);
	if ((size_t)st.st_size < sizeof *h || memcmp(h->magic, "hakmtape", 8) != 0 || h->version != 1 ||
	    (size_t)st.st_size != sizeof *h + h->ops * sizeof *ops) {
		fprintf(stderr, "driver: %s is no tape of version 1\n", p->tape);
		exit(1);
	}
	if (h->threads != p->threads) {
		fprintf(stderr, "driver: %s has %u threads: give --threads %u\n", p->tape, h->threads, h->threads);
		exit(2);
	}
	struct tape *t = pages(sizeof *t);
	t->threads = h->threads;
	t->slots = h->slots;
	t->thread = pages(h->threads * sizeof *t->thread);
	for (uint64_t i = 0; i < h->ops; i++)
		t->thread[ops[i].thread].count++;
	for (uint64_t i = 0; i < h->threads; i++) {
		t->thread[i].ops = pages((t->thread[i].count + 1) * sizeof *ops);
		t->thread[i].count = 0;
	}
	for (uint64_t i = 0; i < h->ops; i++) {
		const struct op *op = &ops[i];
		t->thread[op->thread].ops[t->thread[op->thread].count++] = *op;
		if (i < h->initial)
			t->thread[op->thread].initial++;
		p->max = op->size > p->max ? op->size : p->max;
	}
	s->tape = t;
	s->pointers = pages(h->slots * sizeof *s->pointers + 1);
	s->turns = pages(h->slots * sizeof *s->turns + 1);
	munmap(file, (size_t)st.st_size);
	close(fd);
}

/* await waits for the slot's turn, as in ../tape.go. */
static inline void await(_Atomic uint32_t *turn, uint32_t seq) {
	for (int i = 0; atomic_load(turn) != seq; i++) {
		if (i >= 1000) {
			struct timespec t = {0, 20000};
			nanosleep(&t, NULL);
		} else if (i >= 100) {
			sched_yield();
		}
	}
}

/* prepare makes what the threads share. */
static void prepare(struct params *p, struct shared *s) {
	if (p->tape != NULL)
		load_tape(p, s);
}

static void observe(struct worker *w, int on);
static uint64_t idle_status(void);
static void look_before(struct shared *);
static void look_after(struct shared *);

/* idle notes the process's memory before the loops' own blocks: a loop that
 * allocates before its clock starts calls it first, in all threads. */
static inline void idle(struct worker *w) {
	pthread_barrier_wait(&w->shared->barrier);
	if (w->id == 0)
		w->shared->idle_rss = idle_status();
	pthread_barrier_wait(&w->shared->barrier);
}

static void note_lap(struct shared *, const char *);
static void trim_allocator(void);

/* lap ends a part of the loop when all threads have come to its end. */
static void lap(struct worker *w, const char *name) {
	pthread_barrier_wait(&w->shared->barrier);
	if (w->id == 0)
		note_lap(w->shared, name);
	pthread_barrier_wait(&w->shared->barrier);
}

/* rest and trim are done by the first thread. The others wait at the end of the lap. */
static void rest(struct worker *w) {
	uint64_t ms = w->shared->linger_ms;
	struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
	if (w->id == 0)
		nanosleep(&t, NULL);
}

static void trim(struct worker *w) {
	if (w->id == 0)
		trim_allocator();
}

static void begin(struct worker *w) {
	pthread_barrier_wait(&w->shared->ready);
	if (w->id == 0)
		look_before(w->shared);
	pthread_barrier_wait(&w->shared->opened);
	observe(w, 1);
	w->start = now();
}

static void end(struct worker *w) {
	w->stop = now();
	observe(w, 0);
	pthread_barrier_wait(&w->shared->finished);
	if (w->id == 0)
		look_after(w->shared);
	pthread_barrier_wait(&w->shared->looked);
}

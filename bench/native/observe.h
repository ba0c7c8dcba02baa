/*
 * observe.h: calls of malloc and free that are hashed, verified or timed: the
 * twin of ../loops/observe.go.
 */
enum observation { OBSERVE_NOTHING, OBSERVE_HASH, OBSERVE_VERIFY, OBSERVE_LATENCY };

enum {
	SAMPLE_EVERY = 64,               /* operations between two samples, on average */
	BUCKETS = 2048 + 1024 * (64 - 11), /* of a histogram */
};

struct observer {
	enum observation what;
	int on; /* the timed part runs */
	uint64_t hash;
	uint64_t x, left; /* of the samples */
	uint64_t *times, *clock; /* histograms */
};

static const uint64_t fnv_offset = 14695981039346656037u, fnv_prime = 1099511628211u;

static uint64_t sample_distance(struct observer *o) {
	o->x = step(o->x);
	return 1 + below(o->x, 2 * SAMPLE_EVERY - 1);
}

static struct observer *new_observer(enum observation what, uint32_t seed) {
	struct observer *o = pages(sizeof *o);
	o->what = what;
	o->hash = fnv_offset;
	o->x = (uint64_t)seed | (uint64_t)1 << 32;
	o->left = sample_distance(o);
	if (what == OBSERVE_LATENCY) {
		o->times = pages(BUCKETS * sizeof *o->times);
		o->clock = pages(BUCKETS * sizeof *o->clock);
	}
	return o;
}

static void observe(struct worker *w, int on) {
	if (w->obs != NULL)
		w->obs->on = w->partner->obs->on = on;
}

static void note(struct observer *o, uint64_t op, uint64_t size, uint64_t slot) {
	o->hash = (o->hash ^ op) * fnv_prime;
	o->hash = (o->hash ^ size) * fnv_prime;
	o->hash = (o->hash ^ slot) * fnv_prime;
}

/* A histogram has a bucket for each time below 2048 ns, above 1024 for every
 * doubling. */
static int bucket_shift(uint64_t ns) {
	int length = ns == 0 ? 0 : 64 - __builtin_clzll(ns);
	return length > 11 ? length - 11 : 0;
}

static void count(uint64_t *histogram, uint64_t ns) {
	int shift = bucket_shift(ns);
	/* shift 0 has the first 2048; each further one the upper 1024 of its range */
	histogram[shift == 0 ? ns : 1024 * (uint64_t)shift + (ns >> shift)]++;
}

static uint64_t bucket_time(uint64_t i) {
	if (i < 2048)
		return i;
	uint64_t shift = (i - 1024) / 1024;
	return (i - 1024 * shift) << shift;
}

static int sampled(struct observer *o) {
	if (o->what != OBSERVE_LATENCY || !o->on || --o->left != 0)
		return 0;
	o->left = sample_distance(o);
	uint64_t start = now_ns(); /* the clock's own cost, in the same state of the caches */
	count(o->clock, now_ns() - start);
	return 1;
}

/* The checker knows the live blocks of all threads: an open-addressing table
 * under one lock, deletion by shifting back (Knuth 6.4, algorithm R). */
static struct {
	pthread_mutex_t mu;
	struct live {
		uintptr_t p;
		size_t size;
		uint64_t seed;
	} *table;
	uint64_t mask, used, seed, verified;
} check = {.mu = PTHREAD_MUTEX_INITIALIZER, .seed = 1};

static uint64_t check_home(uintptr_t p) { return (p >> 4) * 0x9e3779b97f4a7c15u >> 20 & check.mask; }

static void check_put(struct live b) {
	uint64_t i = check_home(b.p);
	while (check.table[i].p != 0)
		i = (i + 1) & check.mask;
	check.table[i] = b;
	check.used++;
}

static void check_failed(const char *what, const void *p, size_t size, size_t at) {
	fprintf(stderr, "driver: verify: %s: block %p of %zu bytes, byte %zu\n", what, p, size, at);
	_exit(1);
}

static void check_came(char *p, size_t size) {
	pthread_mutex_lock(&check.mu);
	if (2 * (check.used + 1) > check.mask) {
		struct live *old = check.table;
		uint64_t n = check.mask + 1;
		check.mask = old == NULL ? (1 << 16) - 1 : 2 * n - 1;
		check.table = pages((check.mask + 1) * sizeof *check.table);
		check.used = 0;
		for (uint64_t i = 0; old != NULL && i < n; i++)
			if (old[i].p != 0)
				check_put(old[i]);
		if (old != NULL)
			munmap(old, n * sizeof *old);
	}
	for (uint64_t i = check_home((uintptr_t)p); check.table[i].p != 0; i = (i + 1) & check.mask)
		if (check.table[i].p == (uintptr_t)p && size > 0)
			check_failed("given out again while alive", p, size, 0);
	check.seed = step(check.seed);
	uint64_t seed = check.seed;
	check_put((struct live){(uintptr_t)p, size, seed});
	pthread_mutex_unlock(&check.mu);
	fill_words(p, size, seed);
	for (size_t i = size & ~(size_t)7; i < size; i++)
		p[i] = ((const char *)&seed)[i % 8];
}

/* check_holds checks that the first bytes at p are those of seed, again and
 * again. */
static void check_holds(const char *what, const char *p, size_t size, uint64_t seed) {
	for (size_t k = 0; k < size / 8; k++)
		if (((const uint64_t *)(const void *)p)[k] != seed)
			check_failed(what, p, size, 8 * k);
	for (size_t k = size & ~(size_t)7; k < size; k++)
		if (p[k] != ((const char *)&seed)[k % 8])
			check_failed(what, p, size, k);
}

/* check_gone checks a block that is about to be freed, and returns what it was. */
static struct live check_gone(const char *p) {
	pthread_mutex_lock(&check.mu);
	uint64_t i = check.table == NULL ? 0 : check_home((uintptr_t)p);
	while (check.table != NULL && check.table[i].p != 0 && check.table[i].p != (uintptr_t)p)
		i = (i + 1) & check.mask;
	if (check.table == NULL || check.table[i].p == 0)
		check_failed("freed and was not allocated", p, 0, 0);
	struct live b = check.table[i];
	for (uint64_t j = i;;) {
		check.table[i].p = 0;
		uint64_t home;
		do {
			j = (j + 1) & check.mask;
			if (check.table[j].p == 0)
				goto closed;
			home = check_home(check.table[j].p);
		} while (i <= j ? i < home && home <= j : i < home || home <= j);
		check.table[i] = check.table[j];
		i = j;
	}
closed:
	check.used--;
	check.verified++;
	pthread_mutex_unlock(&check.mu);
	check_holds("changed while it was alive", p, b.size, b.seed);
	return b;
}

static void check_zeroed(const char *p, size_t size) {
	for (size_t i = 0; i < size; i++)
		if (p[i] != 0)
			check_failed("not zeroed", p, size, i);
}

static void came(struct observer *o, void *p, size_t size, uint64_t slot) {
	if (p == NULL) {
		fprintf(stderr, "driver: no memory for %zu bytes\n", size);
		_exit(1);
	}
	if (o->what == OBSERVE_HASH)
		note(o, 1, size, slot);
	else if (o->what == OBSERVE_VERIFY)
		check_came(p, size);
}

/* touch writes a block's first byte, if it has one. */
static inline void touch(char *p, size_t size) {
	if (size > 0 && p != NULL) /* who allocates sees that it is NULL */
		*(volatile char *)p = 1;
}

/* aligned returns a block at a multiple of align, NULL without memory. */
static inline void *aligned(size_t align, size_t size) {
	void *p;
	return posix_memalign(&p, align, size) == 0 ? p : NULL;
}

/* Not every loop calls all of these. */
#define SOMETIMES __attribute__((unused)) static

SOMETIMES void *obs_malloc(struct observer *o, size_t size, uint64_t slot) {
	char *p;
	if (sampled(o)) {
		uint64_t start = now_ns();
		p = malloc(size);
		touch(p, size);
		count(o->times, now_ns() - start);
	} else {
		p = malloc(size);
	}
	came(o, p, size, slot);
	return p;
}

SOMETIMES void *obs_memalign(struct observer *o, size_t align, size_t size, uint64_t slot) {
	char *p;
	if (sampled(o)) {
		uint64_t start = now_ns();
		p = aligned(align, size);
		touch(p, size);
		count(o->times, now_ns() - start);
	} else {
		p = aligned(align, size);
	}
	if (o->what == OBSERVE_VERIFY && (uintptr_t)p % align != 0)
		check_failed("not aligned", p, size, 0);
	came(o, p, size, slot);
	return p;
}

SOMETIMES void *obs_calloc(struct observer *o, size_t size, uint64_t slot) {
	char *p;
	if (sampled(o)) {
		uint64_t start = now_ns();
		p = calloc(1, size);
		touch(p, size);
		count(o->times, now_ns() - start);
	} else {
		p = calloc(1, size);
	}
	if (o->what == OBSERVE_VERIFY && p != NULL)
		check_zeroed(p, size);
	came(o, p, size, slot);
	return p;
}

SOMETIMES void *obs_realloc(struct observer *o, void *p, size_t more, uint64_t slot) {
	char *q;
	struct live old = {0};
	if (o->what == OBSERVE_VERIFY)
		old = check_gone(p);
	if (sampled(o)) {
		uint64_t start = now_ns();
		q = realloc(p, more);
		touch(q, more);
		count(o->times, now_ns() - start);
	} else {
		q = realloc(p, more);
	}
	if (o->what == OBSERVE_VERIFY && q != NULL)
		check_holds("lost when it was reallocated", q, old.size < more ? old.size : more, old.seed);
	came(o, q, more, slot);
	return q;
}

SOMETIMES void obs_free_handed(struct observer *o, void *p) {
	if (o->what == OBSERVE_VERIFY)
		check_gone(p);
	if (sampled(o)) {
		uint64_t start = now_ns();
		free(p);
		count(o->times, now_ns() - start);
	} else {
		free(p);
	}
}

SOMETIMES void obs_free(struct observer *o, void *p, uint64_t slot) {
	if (o->what == OBSERVE_HASH)
		note(o, 0, 0, slot);
	obs_free_handed(o, p);
}

/* Verified blocks hold the checker's pattern: the loops write nothing there. */
static int writable(struct observer *o) { return o->what != OBSERVE_VERIFY; }

static void print_histogram(const char *name, struct worker *w, uint64_t workers, uint64_t *(*of)(struct observer *)) {
	printf(",\"%s\":[", name);
	const char *comma = "";
	for (uint64_t i = 0; i < BUCKETS; i++) {
		uint64_t n = 0;
		for (uint64_t k = 0; k < workers; k++)
			n += of(w[k].obs)[i];
		if (n != 0) {
			printf("%s[%llu,%llu]", comma, (unsigned long long)bucket_time(i), (unsigned long long)n);
			comma = ",";
		}
	}
	printf("]");
}

static uint64_t *times_of(struct observer *o) { return o->times; }
static uint64_t *clock_of(struct observer *o) { return o->clock; }

/* print_observed prints the fields of result.Observed. The workers' partners
 * follow them; their operations are not part of the hashes. */
static void print_observed(struct worker *w, uint64_t workers, enum observation what) {
	printf(",\"observed\":{");
	switch (what) {
	case OBSERVE_HASH:
		printf("\"hashes\":[");
		for (uint64_t i = 0; i < workers; i++)
			printf("%s\"%016llx\"", i == 0 ? "" : ",", (unsigned long long)w[i].obs->hash);
		printf("]");
		break;
	case OBSERVE_VERIFY:
		if (check.used != 0)
			check_failed("blocks were never freed", NULL, check.used, 0);
		printf("\"verified\":%llu", (unsigned long long)check.verified);
		break;
	default:
		printf("\"every\":%d", SAMPLE_EVERY);
		print_histogram("clock", w, 2 * workers, clock_of);
		print_histogram("latency", w, 2 * workers, times_of);
	}
	printf("}");
}

/*
 * driver.c: the workloads of package bench, in C, over malloc and free.
 *
 *   driver LOOP [--min N --max N ... --tape FILE] [--empty]
 *               [--observe hash|verify|latency] [--linger MS]
 *
 * Which allocator is measured is decided from outside, with LD_PRELOAD; the
 * output names the library that malloc came from. One line of JSON is printed,
 * with the field names of bench.Run. --empty runs the loop without allocator;
 * --observe hashes, verifies or samples the operations; --linger looks at the
 * memory once more, that long after everything was freed.
 */
#define _GNU_SOURCE /* dladdr, RTLD_DEFAULT, MAP_POPULATE */
#include <dlfcn.h>

#include "common.h"
#include "observe.h"

#define NAME(f) f##_direct
#define MALLOC(size, slot) malloc(size)
#define CALLOC(size, slot) calloc(1, size)
#define REALLOC(p, size, more, slot) realloc(p, more)
#define MEMALIGN(align, size, slot) aligned(align, size)
#define FREE(p, slot) free(p)
#define FREE_HANDED(p) free(p)
#define WRITE(p, off) (((volatile char *)(p))[off] = 1)
#define FILL(p, size, v) fill_words(p, size, v)
#define SUM(p, size) sum_words(p, size)
#include "loops.h"
#undef NAME
#undef MALLOC
#undef CALLOC
#undef REALLOC
#undef MEMALIGN
#undef FREE
#undef FREE_HANDED

/* The empty loops' allocator. The asm keeps the compiler from dropping the
 * free; malloc and free themselves are not known to it (-fno-builtin). */
#define NAME(f) f##_empty
#define MALLOC(size, slot) ((void)(size), w->scratch)
#define CALLOC(size, slot) ((void)(size), w->scratch)
#define REALLOC(p, size, more, slot) (p)
#define MEMALIGN(align, size, slot) ((void)(align), (void)(size), w->scratch)
#define FREE(p, slot) __asm__ volatile("" : : "r"(p))
#define FREE_HANDED(p) __asm__ volatile("" : : "r"(p))
#include "loops.h"
#undef NAME
#undef MALLOC
#undef CALLOC
#undef REALLOC
#undef MEMALIGN
#undef FREE
#undef FREE_HANDED
#undef WRITE
#undef FILL
#undef SUM

#define NAME(f) f##_observed
#define MALLOC(size, slot) obs_malloc(w->obs, size, slot)
#define CALLOC(size, slot) obs_calloc(w->obs, size, slot)
#define REALLOC(p, size, more, slot) obs_realloc(w->obs, p, more, slot)
#define MEMALIGN(align, size, slot) obs_memalign(w->obs, align, size, slot)
#define FREE(p, slot) obs_free(w->obs, p, slot)
#define FREE_HANDED(p) obs_free_handed(w->obs, p)
#define WRITE(p, off) (writable(w->obs) ? (void)(((volatile char *)(p))[off] = 1) : (void)0)
#define FILL(p, size, v) (writable(w->obs) ? fill_words(p, size, v) : (void)0)
#define SUM(p, size) (writable(w->obs) ? sum_words(p, size) : 0)
#include "loops.h"

/* status reads one figure of /proc/self/status, in bytes; 0 if there is none.
 * It does not allocate: the allocator under test is not to see it. */
static uint64_t status(const char *name) {
	static char text[8192]; /* the file has about 1500 bytes */
	int fd = open("/proc/self/status", O_RDONLY);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	char *at = strstr(text, name);
	return at == NULL ? 0 : strtoull(at + strlen(name), NULL, 10) << 10;
}

/* The addresses of two system calls without effect between which the timed
 * part lies, for who traces them: as in ../report.go. */
static const uintptr_t mark_begin = (uintptr_t)0x68616b42 << 12, mark_end = (uintptr_t)0x68616b45 << 12;

static uint64_t faults(void) {
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return (uint64_t)u.ru_minflt;
}

static double cpu_seconds(void) {
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* note_lap ends the current lap and begins the next one. What it does itself is in neither. */
static void note_lap(struct shared *s, const char *name) {
	double took = now() - s->lap_start, cpu = cpu_seconds() - s->lap_cpu;
	uint64_t count = faults() - s->lap_faults;
	if (s->lap_count == MAX_LAPS) {
		fprintf(stderr, "driver: more than %d laps\n", MAX_LAPS);
		exit(1);
	}
	struct lap *l = &s->laps[s->lap_count++];
	*l = (struct lap){.name = name, .rss = status("VmRSS:")};
	if (s->lap_count > 1) {
		l->seconds = took;
		l->cpu = cpu;
		l->faults = count;
	}
	s->lap_cpu = cpu_seconds();
	s->lap_faults = faults();
	s->lap_start = now();
}

/* trim_allocator has the allocator in force return what it can to the system. */
static void trim_allocator(void) {
	void (*collect)(int);
	int (*mallctl)(const char *, void *, size_t *, void *, size_t);
	void (*release)(void);
	int (*malloc_trim)(size_t);
	*(void **)&collect = dlsym(RTLD_DEFAULT, "mi_collect");
	*(void **)&mallctl = dlsym(RTLD_DEFAULT, "mallctl");
	*(void **)&release = dlsym(RTLD_DEFAULT, "MallocExtension_ReleaseFreeMemory");
	*(void **)&malloc_trim = dlsym(RTLD_DEFAULT, "malloc_trim");
	if (collect != NULL)
		collect(1);
	else if (mallctl != NULL)
		mallctl("arena.4096.purge", NULL, NULL, NULL, 0); /* MALLCTL_ARENAS_ALL */
	else if (release != NULL)
		release();
	else if (malloc_trim != NULL)
		malloc_trim(0);
}

/* print_laps prints the laps of a loop that has some. */
static void print_laps(const struct shared *s) {
	if (s->lap_count == 0)
		return;
	printf(",\"laps\":[");
	for (uint64_t i = 0; i < s->lap_count; i++) {
		const struct lap *l = &s->laps[i];
		printf("%s{\"name\":\"%s\",\"seconds\":%.9f,\"cpu_seconds\":%.6f,\"minor_faults\":%llu,\"rss_bytes\":%llu}", i > 0 ? "," : "",
		       l->name, l->seconds, l->cpu, (unsigned long long)l->faults, (unsigned long long)l->rss);
	}
	putchar(']');
}

/* idle_status looks at the memory and lets the peak begin anew, so that what
 * the harness used before does not count. */
static uint64_t idle_status(void) {
	int fd = open("/proc/self/clear_refs", O_WRONLY);
	if (fd >= 0) {
		ssize_t n = write(fd, "5", 1); /* proc_pid_clear_refs(5) */
		(void)n;
		close(fd);
	}
	return status("VmRSS:");
}

static void look_before(struct shared *s) {
	if (s->idle_rss == 0)
		s->idle_rss = idle_status();
	s->faults = faults();
	madvise((void *)mark_begin, 0, 0);
	s->begin_ns = now_ns();
}

static void look_after(struct shared *s) {
	s->end_ns = now_ns();
	madvise((void *)mark_end, 0, 0);
	s->faults = faults() - s->faults;
	/* Linux notes a peak only now and then: what was seen counts as well. */
	s->peak_rss = status("VmHWM:");
	s->peak_rss = s->peak_rss > s->idle_rss ? s->peak_rss : s->idle_rss;
}

/* malloc_from names the file that malloc was taken from. */
static const char *malloc_from(void) {
	Dl_info info;
	void *m = dlsym(RTLD_DEFAULT, "malloc");
	if (m == NULL || dladdr(m, &info) == 0 || info.dli_fname == NULL)
		return "";
	return info.dli_fname;
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
		snprintf(text, sizeof text, "%s%s", strstr(malloc_from(), "/libc.so") != NULL ? "glibc " : "unknown, over glibc ",
			gnu_get_libc_version());
	return text;
}

/* print_string prints a string as JSON. */
static void print_string(const char *s) {
	putchar('"');
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;
		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void usage(const char *why, const char *what) {
	fprintf(stderr, "driver: %s \"%s\"\n"
		"usage: driver LOOP [--min N] [--max N] [--ws N] [--iters N] [--rounds N] [--alive N]\n"
		"  [--stride N] [--threads N] [--seed N] [--tape FILE] [--empty]\n"
		"  [--observe hash|verify|latency] [--linger MS]\n"
		"loops:", why, what);
	for (const struct loop *l = loops_direct; l->name != NULL; l++)
		fprintf(stderr, " %s", l->name);
	fprintf(stderr, "\n");
	exit(2);
}

struct job {
	struct worker *w;
	void (*run)(struct worker *);
};

static void *run_job(void *arg) {
	struct job *j = arg;
	j->run(j->w);
	return NULL;
}

int main(int argc, char **argv) {
	struct params p = {.threads = 1, .seed = 1};
	uint64_t linger = 0;
	const struct { const char *name; uint64_t *value; } numbers[] = {
		{"--min", &p.min}, {"--max", &p.max}, {"--ws", &p.ws}, {"--iters", &p.iters},
		{"--rounds", &p.rounds}, {"--alive", &p.alive}, {"--stride", &p.stride},
		{"--threads", &p.threads}, {"--seed", &p.seed}, {"--linger", &linger},
	};
	const size_t count = sizeof numbers / sizeof numbers[0];
	const char *name = NULL;
	int empty = 0;
	enum observation what = OBSERVE_NOTHING;
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
		} else if (strcmp(argv[i], "--observe") == 0 || strcmp(argv[i], "--tape") == 0) {
			if (i + 1 == argc)
				usage("nothing after", argv[i]);
			const char *value = argv[i + 1];
			if (strcmp(argv[i++], "--tape") == 0)
				p.tape = value;
			else if (strcmp(value, "hash") == 0)
				what = OBSERVE_HASH;
			else if (strcmp(value, "verify") == 0)
				what = OBSERVE_VERIFY;
			else if (strcmp(value, "latency") == 0)
				what = OBSERVE_LATENCY;
			else
				usage("use hash, verify or latency, not", value);
		} else if (name == NULL && argv[i][0] != '-') {
			name = argv[i];
		} else {
			usage("unknown argument", argv[i]);
		}
	}
	if (name == NULL)
		usage("no loop given;", "random_mixed");
	const struct loop *loop = empty ? loops_empty : what != OBSERVE_NOTHING ? loops_observed : loops_direct;
	while (loop->name != NULL && strcmp(loop->name, name) != 0)
		loop++;
	if (loop->name == NULL)
		usage("unknown loop", name);
	if (p.min > p.max)
		usage("--min is above --max in", name);

	struct shared *s = pages(sizeof *s);
	pthread_barrier_t *barriers[] = {&s->barrier, &s->ready, &s->opened, &s->finished, &s->looked};
	for (size_t i = 0; i < sizeof barriers / sizeof *barriers; i++)
		pthread_barrier_init(barriers[i], NULL, (unsigned)p.threads);
	s->linger_ms = linger;
	prepare(&p, s);
	struct worker *w = pages(2 * p.threads * sizeof *w); /* and their partners */
	struct job *jobs = pages(p.threads * sizeof *jobs);
	for (uint64_t i = 0; i < p.threads; i++) {
		w[i].p = p;
		w[i].id = i;
		w[i].seed = thread_seed(&p, i);
		w[i].shared = s;
		if (empty)
			w[i].scratch = pages(scratch_size(name, &p));
		if (what != OBSERVE_NOTHING)
			w[i].obs = new_observer(what, w[i].seed);
		struct worker *partner = w[i].partner = &w[p.threads + i];
		*partner = w[i];
		if (what != OBSERVE_NOTHING)
			partner->obs = new_observer(what, w[i].seed);
		jobs[i] = (struct job){&w[i], loop->run};
	}
	/* A single thread is the main one: glibc takes its locks only in a process
	 * that has more. */
	if (p.threads == 1)
		loop->run(&w[0]);
	else
		for (uint64_t i = 0; i < p.threads; i++)
			if ((errno = pthread_create(&w[i].thread, NULL, run_job, &jobs[i])) != 0)
				fail("pthread_create");
	for (uint64_t i = 0; i < p.threads && p.threads > 1; i++)
		pthread_join(w[i].thread, NULL);

	double first = w[0].start, last = w[0].stop;
	for (uint64_t i = 1; i < p.threads; i++) {
		first = w[i].start < first ? w[i].start : first;
		last = w[i].stop > last ? w[i].stop : last;
	}
	uint64_t rss = status("VmRSS:"), later = 0;
	if (linger > 0) {
		struct timespec t = {(time_t)(linger / 1000), (long)(linger % 1000) * 1000000};
		nanosleep(&t, NULL);
		later = status("VmRSS:");
	}
	double seconds = last - first > 1e-9 ? last - first : 1e-9;
	printf("{\"seconds\":%.9f,\"peak_rss_bytes\":%llu,\"idle_rss_bytes\":%llu,\"end_rss_bytes\":%llu,"
	       "\"later_rss_bytes\":%llu,\"minor_faults\":%llu,\"begin_ns\":%llu,\"end_ns\":%llu,\"version\":",
	       seconds, (unsigned long long)s->peak_rss, (unsigned long long)s->idle_rss,
	       (unsigned long long)rss, (unsigned long long)later, (unsigned long long)s->faults,
	       (unsigned long long)s->begin_ns, (unsigned long long)s->end_ns);
	print_string(version());
	printf(",\"malloc_from\":");
	print_string(malloc_from());
	print_laps(s);
	if (what != OBSERVE_NOTHING)
		print_observed(w, p.threads, what);
	printf("}\n");
	return 0;
}

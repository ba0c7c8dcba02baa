/*
 * loops.h: the workloads' loops, those in ../loops/loops.go, statement by statement:
 * where one changes, so must the other.
 *
 * driver.c includes this file three times, each time with other meanings of
 * NAME, MALLOC, CALLOC, REALLOC, MEMALIGN, FREE, FREE_HANDED, WRITE, FILL and
 * SUM: calls of the allocator, no allocator, and observed calls. What they do is
 * explained at the methods of the same names in ../loops/observe.go.
 */

static void NAME(random_mixed)(struct worker *w) {
	uintptr_t *slots = pages((w->p.ws + SLOT_PAD) * sizeof *slots);
	uint32_t x = w->seed;
	uint64_t ws = w->p.ws, low = w->p.min;
	uint64_t span = w->p.max - w->p.min + 1;
	begin(w);
	for (uint64_t n = w->p.iters; n != 0; n--) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		uint64_t i = (uint64_t)x * ws >> 32;
		uintptr_t *s = &slots[i];
		if (*s != 0) {
			FREE((void *)*s, i);
			*s = 0;
		} else {
			x ^= x << 13;
			x ^= x >> 17;
			x ^= x << 5;
			size_t size = low + ((uint64_t)x * span >> 32);
			char *p = MALLOC(size, i);
			WRITE(p, 0);
			WRITE(p, size - 1);
			*s = (uintptr_t)p;
		}
	}
	end(w);
	for (uint64_t i = 0; i < ws; i++)
		if (slots[i] != 0)
			FREE((void *)slots[i], i);
}

static void NAME(tiny_hot)(struct worker *w) {
	void *slots[HOT_BATCH];
	begin(w);
	for (uint64_t n = batches(&w->p); n != 0; n--) {
		for (int i = 0; i < HOT_BATCH; i++) {
			char *p = MALLOC(HOT_SIZE, (uint64_t)i);
			WRITE(p, 0);
			slots[i] = p;
		}
		for (int i = HOT_BATCH - 1; i >= 0; i--)
			FREE(slots[i], (uint64_t)i);
	}
	end(w);
}

static void NAME(pages)(struct worker *w) {
	void **ring = pages((w->p.alive + SLOT_PAD) * sizeof *ring);
	size_t size = w->p.max, stride = w->p.stride;
	uint64_t alive = w->p.alive, at = 0;
	begin(w);
	for (uint64_t n = w->p.iters; n != 0; n--) {
		void **s = &ring[at];
		if (*s != NULL)
			FREE(*s, at);
		char *p = MALLOC(size, at);
		for (size_t off = 0; off < size; off += stride)
			WRITE(p, off);
		if (alive == 1) { /* freed at once: nothing is alive between two turns */
			FREE(p, at);
			continue;
		}
		*s = p;
		if (++at == alive)
			at = 0;
	}
	end(w);
	for (uint64_t i = 0; i < alive; i++)
		if (ring[i] != NULL)
			FREE(ring[i], i);
}

static void NAME(mixed)(struct worker *w) {
	size_t stride = w->p.stride;
	begin(w);
	for (uint64_t n = w->p.rounds; n != 0; n--)
		for (size_t part = 0; part < sizeof mixed_counts / sizeof *mixed_counts; part++) {
			size_t size = mixed_counts[part].size;
			for (uint64_t k = mixed_counts[part].count; k != 0; k--) {
				char *p = MALLOC(size, 0);
				for (size_t off = 0; off < size; off += stride)
					WRITE(p, off);
				FREE(p, 0);
			}
		}
	end(w);
}

/* growth in laps: it fills the slots, replaces random blocks, frees nine tenths
 * of them, rests, and trims the allocator while all blocks are alive and after
 * the rest. */
static void NAME(growth)(struct worker *w) {
	uint64_t low = w->p.min, span = w->p.max - w->p.min + 1, ws = w->p.ws;
	void **slots = pages((ws + SLOT_PAD) * sizeof *slots);
	uint64_t x = random_start(w);
	idle(w);
	begin(w);
	lap(w, "start");
	for (uint64_t i = 0; i < ws; i++) {
		x = step(x);
		size_t size = low + below(x, span);
		char *p = MALLOC(size, i);
		WRITE(p, 0);
		WRITE(p, size - 1);
		slots[i] = p;
	}
	lap(w, "fill");
	for (uint64_t n = w->p.iters; n != 0; n--) {
		x = step(x);
		uint64_t i = below(x, ws);
		void **s = &slots[i];
		FREE(*s, i);
		x = step(x);
		size_t size = low + below(x, span);
		char *p = MALLOC(size, i);
		WRITE(p, 0);
		WRITE(p, size - 1);
		*s = p;
	}
	lap(w, "replace");
	trim(w);
	lap(w, "trim full");
	/* each block is kept with the probability left/n, so that ws/10 of them are kept in all */
	uint64_t left = growth_kept(ws), to = 0;
	for (uint64_t n = ws; n != 0; n--) {
		uint64_t i = ws - n;
		x = step(x);
		void *p = slots[i];
		slots[i] = NULL;
		if (below(x, n) < left) {
			left--;
			slots[to++] = p;
		} else {
			FREE(p, i);
		}
	}
	lap(w, "thin");
	rest(w);
	lap(w, "rest");
	trim(w);
	lap(w, "trim");
	end(w);
	for (uint64_t i = 0; i < to; i++)
		FREE(slots[i], i);
}

struct NAME(larson_state) {
	struct worker *w;
	void **slots;
	uint64_t x, n;
};

/* larson_replace replaces n random blocks. */
static void NAME(larson_replace)(void *arg) {
	struct NAME(larson_state) *l = arg;
	struct worker *w = l->w;
	uint64_t low = w->p.min, span = w->p.max - w->p.min + 1, ws = w->p.ws, x = l->x;
	void **slots = l->slots;
	for (uint64_t n = l->n; n != 0; n--) {
		x = step(x);
		uint64_t i = below(x, ws);
		void **s = &slots[i];
		FREE(*s, i);
		x = step(x);
		size_t size = low + below(x, span);
		char *p = MALLOC(size, i);
		WRITE(p, 0);
		WRITE(p, 1);
		*s = p;
	}
	l->x = x;
}

/* larson_warm fills the slots, shuffles them, and replaces four times as many
 * as there are. */
static void NAME(larson_warm)(void *arg) {
	struct NAME(larson_state) *l = arg;
	struct worker *w = l->w;
	uint64_t low = w->p.min, span = w->p.max - w->p.min + 1, ws = w->p.ws, x = l->x;
	void **slots = l->slots;
	for (uint64_t i = 0; i < ws; i++) {
		x = step(x);
		size_t size = low + below(x, span);
		char *p = MALLOC(size, i);
		WRITE(p, 0);
		WRITE(p, 1);
		slots[i] = p;
	}
	for (uint64_t i = ws; i > 1; i--) {
		x = step(x);
		uint64_t j = below(x, i);
		void *other = slots[i - 1];
		slots[i - 1] = slots[j];
		slots[j] = other;
	}
	l->x = x;
	l->n = 4 * ws;
	NAME(larson_replace)(l);
}

static void NAME(larson)(struct worker *w) {
	struct NAME(larson_state) l = {w, pages((w->p.ws + SLOT_PAD) * sizeof(void *)), random_start(w), 0};
	idle(w);
	alone(NAME(larson_warm), &l);
	begin(w);
	l.n = w->p.iters;
	for (uint64_t n = w->p.rounds; n != 0; n--)
		alone(NAME(larson_replace), &l);
	end(w);
	for (uint64_t i = 0; i < w->p.ws; i++)
		FREE(l.slots[i], i);
}

/* tape_clear frees what is alive and begins the slots' turns anew. */
static void NAME(tape_clear)(struct worker *w) {
	void **slots = w->shared->pointers;
	for (uint64_t i = 0; i < w->shared->tape->slots; i++) {
		if (slots[i] != NULL)
			FREE_HANDED(slots[i]);
		slots[i] = NULL;
		atomic_store(&w->shared->turns[i], 0);
	}
}

/* tape_pass executes one thread's operations in their order, and on each slot
 * in that of all threads. */
static void NAME(tape_pass)(struct worker *w, const struct op *ops, const struct op *stop) {
	void **slots = w->shared->pointers;
	_Atomic uint32_t *turns = w->shared->turns;
	int threaded = w->shared->tape->threads > 1;
	for (const struct op *op = ops; op < stop; op++) {
		if (threaded)
			await(&turns[op->slot], op->seq);
		void **s = &slots[op->slot];
		size_t size = op->size;
		char *p = NULL;
		switch (op->kind) {
		case OP_FREE:
			p = *s;
			*s = NULL;
			if (threaded)
				FREE_HANDED(p);
			else
				FREE(p, op->slot);
			break;
		case OP_MALLOC:
			p = MALLOC(size, op->slot);
			for (size_t off = 0; off < size; off += 4096)
				WRITE(p, off);
			*s = p;
			break;
		case OP_CALLOC:
			p = CALLOC(size, op->slot);
			for (size_t off = 0; off < size; off += 4096)
				WRITE(p, off);
			*s = p;
			break;
		case OP_REALLOC:
			p = REALLOC(*s, 0, size, op->slot);
			for (size_t off = 0; off < size; off += 4096)
				WRITE(p, off);
			*s = p;
			break;
		case OP_MEMALIGN:
			p = MEMALIGN((size_t)1 << (op->align & 31), size, op->slot);
			for (size_t off = 0; off < size; off += 4096)
				WRITE(p, off);
			*s = p;
			break;
		}
		if (threaded)
			atomic_store(&turns[op->slot], op->seq + 1);
	}
}

static void NAME(tape)(struct worker *w) {
	struct tape *t = w->shared->tape;
	const struct op *ops = t->thread[w->id].ops, *stop = ops + t->thread[w->id].count;
	const struct op *initial = ops + t->thread[w->id].initial;
	idle(w);
	NAME(tape_pass)(w, ops, initial);
	begin(w);
	NAME(tape_pass)(w, initial, stop);
	for (uint64_t n = w->p.rounds; n > 1; n--) {
		pthread_barrier_wait(&w->shared->barrier);
		if (w->id == 0)
			NAME(tape_clear)(w);
		pthread_barrier_wait(&w->shared->barrier);
		NAME(tape_pass)(w, ops, stop);
	}
	end(w);
	if (w->id == 0)
		NAME(tape_clear)(w);
}

struct NAME(sized_slot) {
	char *block;
	size_t size;
};

static void NAME(alloc_test)(struct worker *w) {
	uint64_t ws = w->p.ws / w->p.threads > 1 ? w->p.ws / w->p.threads : 1;
	struct NAME(sized_slot) *slots = pages((ws + SLOT_PAD) * sizeof *slots);
	struct pareto popular;
	new_pareto(&popular, ws);
	uint64_t x = random_start(w), low = w->p.min, high = w->p.max, top = top_level(low, high);
	uint64_t total = 0;
	idle(w);
	for (uint64_t i = 0; i < ws; i += 2) {
		x = step(x);
		size_t size = level_size(x, low, high, top);
		char *p = MALLOC(size, i);
		FILL(p, size, x);
		slots[i].block = p;
		slots[i].size = size;
	}
	begin(w);
	for (uint64_t n = w->p.iters; n != 0; n--) {
		x = step(x);
		uint64_t i = pareto_slot(&popular, x);
		struct NAME(sized_slot) *s = &slots[i];
		if (s->block != NULL) {
			total += SUM(s->block, s->size);
			FREE(s->block, i);
			s->block = NULL;
		} else {
			x = step(x);
			size_t size = level_size(x, low, high, top);
			char *p = MALLOC(size, i);
			FILL(p, size, x);
			s->block = p;
			s->size = size;
		}
	}
	end(w);
	w->sum = total;
	for (uint64_t i = 0; i < ws; i++)
		if (slots[i].block != NULL)
			FREE(slots[i].block, i);
}

/* sh6_turn is called when the filling of the slots comes to b->limit. It
 * returns the slot to go on from: that behind the saved ones or, when all are
 * full, the first, after it has saved the next fifth and freed what is below
 * that, the oldest first, and what is above it, the newest first. */
static __attribute__((noinline)) uint64_t NAME(sh6_turn)(struct worker *w, void **slots, struct sh6_buffer *b) {
	if (sh6_skip(b, w->p.ws))
		return b->past;
	sh6_save(b, w->p.ws);
	uint64_t saved = b->saved, past = b->past;
	for (uint64_t i = 0; i < saved; i++)
		FREE(slots[i], i);
	for (uint64_t i = w->p.ws; i > past; i--)
		FREE(slots[i - 1], i - 1);
	return sh6_first(b, w->p.ws);
}

/* sh6_rest frees what the last turn left: all below at, and the saved slots. */
static void NAME(sh6_rest)(struct worker *w, void **slots, uint64_t at, struct sh6_buffer *b) {
	for (uint64_t i = 0; i < w->p.ws; i++)
		if (i < at || (i >= b->saved && i < b->past))
			FREE(slots[i], i);
}

static void NAME(sh6bench)(struct worker *w) {
	void **slots = pages((w->p.ws + SLOT_PAD) * sizeof *slots);
	uint64_t at = 0;
	struct sh6_buffer b = {w->p.ws, w->p.ws, w->p.ws, 0};
	begin(w);
	for (uint64_t n = w->p.rounds; n != 0; n--)
		for (uint64_t first = 1; first <= w->p.max; first += first / 2 + 1)
			for (uint64_t bytes = first; bytes != 0; bytes /= 2) {
				size_t size = bytes;
				for (uint64_t k = sh6_repeats(bytes); k != 0; k--) {
					void **s = &slots[at];
					char *p = MALLOC(size, at);
					WRITE(p, 0);
					WRITE(p, size - 1);
					*s = p;
					if (++at == b.limit)
						at = NAME(sh6_turn)(w, slots, &b);
				}
			}
	NAME(sh6_rest)(w, slots, at, &b);
	end(w);
}

static void NAME(sh8bench)(struct worker *w) {
	uint64_t low = w->p.min, span = w->p.max - w->p.min + 1;
	void **slots = pages((w->p.ws + SLOT_PAD) * sizeof *slots);
	uint64_t id = w->id, threads = w->p.threads;
	if (id == 0)
		w->shared->pointers = pages(SH8_TABLE * sizeof(void *));
	pthread_barrier_wait(&w->shared->barrier);
	void **table = w->shared->pointers;
	uint64_t x = random_start(w);
	idle(w);
	for (uint64_t k = id; k < SH8_TABLE; k += threads) {
		x = step(x);
		size_t size = low + below(x, span);
		char *p = MALLOC(size, k);
		WRITE(p, 0);
		WRITE(p, size - 1);
		table[k] = p;
	}
	uint64_t at = 0;
	struct sh6_buffer b = {w->p.ws, w->p.ws, w->p.ws, id * SH8_TABLE / threads};
	begin(w);
	for (uint64_t n = w->p.iters; n != 0; n--) {
		x = step(x);
		size_t size = low + below(x, span);
		char *p = MALLOC(size, at);
		WRITE(p, 0);
		WRITE(p, size - 1);
		if (n % SH8_EVERY == 0) {
			void **s = &w->shared->pointers[b.hand];
			void *old = __atomic_exchange_n(s, (void *)p, __ATOMIC_SEQ_CST);
			FREE_HANDED(old);
			if (++b.hand == SH8_TABLE)
				b.hand = 0;
			continue;
		}
		void **s = &slots[at];
		*s = p;
		if (++at == b.limit)
			at = NAME(sh6_turn)(w, slots, &b);
	}
	NAME(sh6_rest)(w, slots, at, &b);
	end(w);
	for (uint64_t k = id; k < SH8_TABLE; k += threads)
		FREE_HANDED(table[k]);
}

/* cache_turns allocates an object, writes to it again and again, and frees it,
 * rounds times. */
static void NAME(cache_turns)(struct worker *w, void **s) {
	size_t size = w->p.max;
	uint64_t writes = cache_writes(&w->p);
	for (uint64_t n = w->p.rounds; n != 0; n--) {
		char *p = MALLOC(size, 0);
		*s = p;
		if (w->obs == NULL || writable(w->obs))
			bump(p, writes);
		FREE(p, 0);
	}
}

static void NAME(cache_thrash)(struct worker *w) {
	void *slots[1 + SLOT_PAD];
	begin(w);
	NAME(cache_turns)(w, &slots[0]);
	end(w);
}

static void NAME(cache_scratch)(struct worker *w) {
	void *slots[1 + SLOT_PAD];
	size_t size = w->p.max;
	uint64_t id = w->id;
	if (id == 0) {
		w->shared->pointers = pages(w->p.threads * sizeof(void *));
		for (uint64_t i = 0; i < w->p.threads; i++) {
			char *p = MALLOC(size, i);
			WRITE(p, 0);
			w->shared->pointers[i] = p;
		}
	}
	pthread_barrier_wait(&w->shared->barrier);
	void **first = &w->shared->pointers[id];
	begin(w);
	FREE(*first, id);
	NAME(cache_turns)(w, &slots[0]);
	end(w);
}

/* glibc_simple_batch fills the slots and frees them: the lower half from the
 * oldest on, the upper from the newest. */
static __attribute__((noinline)) void NAME(glibc_simple_batch)(struct worker *w, void **slots, uint64_t count, size_t size) {
	(void)w;
	for (uint64_t i = 0; i < count; i++) {
		char *p = MALLOC(size, i);
		WRITE(p, 0);
		slots[i] = p;
	}
	uint64_t half = count / 2;
	for (uint64_t i = 0; i < half; i++)
		FREE(slots[i], i);
	for (uint64_t i = count; i > half; i--)
		FREE(slots[i - 1], i - 1);
}

static void NAME(glibc_simple)(struct worker *w) {
	void **slots = pages((simple_counts[3] + SLOT_PAD) * sizeof *slots);
	begin(w);
	for (uint64_t size = w->p.min; size <= w->p.max; size *= 2)
		for (int k = 0; k < 4; k++)
			for (uint64_t n = simple_batches(&w->p, simple_counts[k]); n != 0; n--)
				NAME(glibc_simple_batch)(w, slots, simple_counts[k], size);
	end(w);
}

static void NAME(glibc_thread)(struct worker *w) {
	uint64_t ws = w->p.ws;
	void **slots = pages((ws + SLOT_PAD) * sizeof *slots);
	uint32_t *sizes = pages(THREAD_SIZES * sizeof *sizes);
	uint64_t x = inverse_squares(sizes, random_start(w), w->p.min, w->p.max);
	idle(w);
	for (uint64_t i = 0; i < ws; i++) {
		x = step(x);
		size_t size = sizes[below(x, THREAD_SIZES)];
		char *p = MALLOC(size, i);
		WRITE(p, 0);
		slots[i] = p;
	}
	begin(w);
	for (uint64_t n = w->p.iters; n != 0; n--) {
		x = step(x);
		uint64_t i = below(x, ws);
		void **s = &slots[i];
		FREE(*s, i);
		uint64_t k = (uint64_t)(uint32_t)x * THREAD_SIZES >> 32;
		size_t size = sizes[k];
		char *p = MALLOC(size, i);
		WRITE(p, 0);
		*s = p;
	}
	end(w);
	for (uint64_t i = 0; i < ws; i++)
		FREE(slots[i], i);
}

struct NAME(mleak_state) {
	struct worker *w;
	void **slots;
	uint64_t x;
};

static void NAME(mleak_fill)(void *arg) {
	struct NAME(mleak_state) *l = arg;
	struct worker *w = l->w;
	for (uint64_t i = 0; i < w->p.ws; i++)
		l->slots[i] = CALLOC(LEAK_SIZE, i);
}

/* mleak_turn is what each thread does: it replaces a block that another one
 * left. */
static void NAME(mleak_turn)(void *arg) {
	struct NAME(mleak_state) *l = arg;
	struct worker *w = l->w;
	l->x = step(l->x);
	uint64_t i = below(l->x, w->p.ws);
	void **s = &l->slots[i], *old = *s;
	*s = CALLOC(LEAK_SIZE, i);
	FREE(old, i);
}

static void NAME(mleak)(struct worker *w) {
	struct NAME(mleak_state) l = {w, pages((w->p.ws + SLOT_PAD) * sizeof(void *)), random_start(w)};
	idle(w);
	alone(NAME(mleak_fill), &l);
	begin(w);
	for (uint64_t n = w->p.rounds; n != 0; n--)
		for (int k = 0; k < LEAK_THREADS; k++)
			alone(NAME(mleak_turn), &l);
	end(w);
	for (uint64_t i = 0; i < w->p.ws; i++)
		FREE(l.slots[i], i);
}

static void NAME(malloc_large)(struct worker *w) {
	uint64_t low = w->p.min, span = w->p.max - w->p.min + 1, ws = w->p.ws;
	size_t stride = w->p.stride;
	void **slots = pages((ws + SLOT_PAD) * sizeof *slots);
	uint64_t x = random_start(w);
	idle(w);
	for (uint64_t i = 0; i < ws; i++) {
		x = step(x);
		size_t size = low + below(x, span);
		char *p = CALLOC(size, i);
		for (size_t off = 0; off < size; off += stride)
			WRITE(p, off);
		slots[i] = p;
	}
	begin(w);
	for (uint64_t n = w->p.iters; n != 0; n--) {
		x = step(x);
		uint64_t i = below(x, ws);
		void **s = &slots[i];
		FREE(*s, i);
		x = step(x);
		size_t size = low + below(x, span);
		char *p = CALLOC(size, i);
		for (size_t off = 0; off < size; off += stride)
			WRITE(p, off);
		*s = p;
	}
	end(w);
	for (uint64_t i = 0; i < ws; i++)
		FREE(slots[i], i);
}

/* mstress_thread is the work of one thread in one round. Blocks are known by
 * the numbers of their records, which also tell the size. */
struct NAME(mstress_state) {
	struct worker *w;
	uint32_t *data;
	uint64_t x;
};

static void NAME(mstress_thread)(void *arg) {
	struct NAME(mstress_state) *m = arg;
	struct worker *w = m->w;
	void **blocks = w->shared->pointers;
	uint32_t *sizes = w->shared->sizes, *data = m->data;
	_Atomic uint32_t *transfers = w->shared->mail;
	uint64_t allocs = mstress_allocs(&w->p, w->id);
	uint64_t next = mstress_record(&w->p, w->id);
	uint64_t kept = next + allocs; /* the first retained block */
	uint64_t retain = allocs / 2, keep = kept;
	uint64_t top = 0, room = 0, total = 0, x = m->x;
	void *array = NULL; /* the block in place of data */
	while (allocs != 0 || retain != 0) {
		x = step(x);
		if (retain == 0 || (allocs != 0 && below(x, 100) < 50)) {
			allocs--;
			if (top == room) {
				size_t old = 8 * room;
				room += MSTRESS_GROW;
				array = old == 0 ? MALLOC(8 * room, 0) : REALLOC(array, old, 8 * room, 0);
				WRITE(array, 0);
				WRITE(array, 8 * room - 1);
			}
			size_t size = mstress_size(&x, 5);
			void *p = MALLOC(size, next);
			FILL(p, size, next);
			blocks[next] = p;
			sizes[next] = (uint32_t)size;
			data[top] = (uint32_t)next;
			top++;
			next++;
		} else {
			retain--;
			size_t size = mstress_size(&x, 7);
			void *p = MALLOC(size, keep);
			FILL(p, size, keep);
			blocks[keep] = p;
			sizes[keep] = (uint32_t)size;
			keep++;
		}
		x = step(x);
		if (top != 0 && below(x, 100) < 66) {
			x = step(x);
			uint64_t i = below(x, top);
			uint32_t r = data[i];
			if (r != 0) {
				data[i] = 0;
				void *p = blocks[r];
				blocks[r] = NULL;
				total += SUM(p, sizes[r]);
				FREE_HANDED(p);
			}
		}
		x = step(x);
		if (top != 0 && below(x, 100) < 25) {
			x = step(x);
			uint64_t i = below(x, top);
			x = step(x);
			data[i] = atomic_exchange(&transfers[below(x, MSTRESS_TRANSFERS)], data[i]);
		}
	}
	for (; kept != keep; kept++) {
		void *p = blocks[kept];
		blocks[kept] = NULL;
		total += SUM(p, sizes[kept]);
		FREE(p, kept);
	}
	for (uint64_t i = 0; i < top; i++) {
		uint32_t r = data[i];
		if (r != 0) {
			void *p = blocks[r];
			blocks[r] = NULL;
			total += SUM(p, sizes[r]);
			FREE_HANDED(p);
		}
	}
	FREE(array, 0);
	w->sum += total;
	m->x = x;
}

/* mstress_between frees half of the transfers, before round 1, the last, all
 * of them. The others move to records that the next round does not use. */
static uint64_t NAME(mstress_between)(struct worker *w, uint64_t x, uint64_t n) {
	void **blocks = w->shared->pointers;
	uint32_t *sizes = w->shared->sizes;
	_Atomic uint32_t *transfers = w->shared->mail;
	uint64_t area = 1 + n % 2 * MSTRESS_TRANSFERS;
	for (uint64_t i = 0; i < MSTRESS_TRANSFERS; i++) {
		uint32_t r = transfers[i];
		x = step(x);
		if (r == 0)
			continue;
		void *p = blocks[r];
		blocks[r] = NULL;
		if (n == 1 || below(x, 100) < 50) {
			w->sum += SUM(p, sizes[r]);
			FREE_HANDED(p);
			transfers[i] = 0;
		} else {
			uint64_t to = area + i;
			blocks[to] = p;
			sizes[to] = sizes[r];
			transfers[i] = (uint32_t)to;
		}
	}
	return x;
}

static void NAME(mstress)(struct worker *w) {
	struct shared *s = w->shared;
	if (w->id == 0) {
		uint64_t records = mstress_record(&w->p, w->p.threads);
		s->pointers = pages(records * sizeof *s->pointers);
		s->sizes = pages(records * sizeof *s->sizes);
		s->mail = pages(MSTRESS_TRANSFERS * sizeof *s->mail);
	}
	struct NAME(mstress_state) m = {w, pages((mstress_allocs(&w->p, w->id) + SLOT_PAD) * sizeof *m.data), random_start(w)};
	pthread_barrier_wait(&s->barrier);
	uint64_t y = step(~m.x); /* of the choice between two rounds */
	begin(w);
	for (uint64_t n = w->p.rounds; n != 0; n--) {
		alone(NAME(mstress_thread), &m);
		pthread_barrier_wait(&s->barrier);
		if (w->id == 0)
			y = NAME(mstress_between)(w, y, n);
		pthread_barrier_wait(&s->barrier);
	}
	end(w);
}

/* xmalloc_fill fills Iters batches, xmalloc_free frees as many. */
static void NAME(xmalloc_fill)(struct worker *w) {
	uint64_t x = random_start(w);
	const uint32_t given = (uint32_t)w->p.max;
	const uint32_t *sizes = given != 0 ? &given : xmalloc_sizes;
	uint64_t count = given != 0 ? 1 : sizeof xmalloc_sizes / sizeof *xmalloc_sizes;
	for (uint64_t n = w->p.iters; n != 0; n--) {
		uint32_t b = stack_take(&w->shared->idle);
		void **batch = w->shared->pointers + (uint64_t)b * XMALLOC_BATCH;
		for (uint64_t i = 0; i < XMALLOC_BATCH; i++) {
			x = step(x);
			size_t size = sizes[below(x, count)];
			void *p = MALLOC(size, i);
			FILL(p, size < XMALLOC_FILLED ? size : XMALLOC_FILLED, i);
			batch[i] = p;
		}
		stack_put(&w->shared->full, b);
	}
}

static void NAME(xmalloc_free)(void *arg) {
	struct worker *w = arg;
	for (uint64_t n = w->p.iters; n != 0; n--) {
		uint32_t b = stack_take(&w->shared->full);
		void **batch = w->shared->pointers + (uint64_t)b * XMALLOC_BATCH;
		for (uint64_t i = 0; i < XMALLOC_BATCH; i++) {
			void *p = batch[i];
			batch[i] = NULL;
			FREE_HANDED(p);
		}
		stack_put(&w->shared->idle, b);
	}
}

static void NAME(xmalloc)(struct worker *w) {
	struct shared *s = w->shared;
	if (w->id == 0) {
		s->pointers = pages(XMALLOC_BATCHES * XMALLOC_BATCH * sizeof *s->pointers);
		stack_init(&s->idle, XMALLOC_BATCHES, XMALLOC_BATCHES);
		stack_init(&s->full, XMALLOC_BATCHES, 0);
	}
	pthread_barrier_wait(&s->barrier);
	struct call c = {NAME(xmalloc_free), w->partner};
	begin(w);
	concurrently(w->partner, &c);
	NAME(xmalloc_fill)(w);
	join(w->partner);
	end(w);
}

static void NAME(xmalloc_mixed)(struct worker *w) { NAME(xmalloc)(w); }

/* rptest_fill allocates n blocks for the slots from s on, hop by hop, with the
 * next sizes drawn. */
static __attribute__((noinline)) void NAME(rptest_fill)(struct worker *w, struct rptest_draw *d, void **slots, uint64_t ws, uint64_t s, uint64_t hop, uint64_t n) {
	const uint32_t *sizes = d->sizes;
	uint64_t at = d->at, pace = d->pace;
	size_t touch = w->p.stride;
	for (; n != 0; n--) {
		at = wrap(at + pace, RPTEST_SIZES);
		size_t size = sizes[at];
		char *p = MALLOC(size, s);
		for (size_t off = 0; off < size; off += touch)
			WRITE(p, off);
		slots[s] = p;
		s = wrap(s + hop, ws);
	}
	d->at = at;
}

/* rptest_free frees n blocks in the slots from s on, hop by hop. */
static __attribute__((noinline)) void NAME(rptest_free)(struct worker *w, void **slots, uint64_t ws, uint64_t s, uint64_t hop, uint64_t n) {
	(void)w;
	for (; n != 0; n--) {
		FREE(slots[s], s);
		s = wrap(s + hop, ws);
	}
}

/* rptest_empty frees what is in a buffer, if it is not empty: those that are
 * begin with an empty slot. */
static __attribute__((noinline)) void NAME(rptest_empty)(struct worker *w, void **slots) {
	if (slots[0] == NULL)
		return;
	for (uint64_t i = 0; i < w->p.iters; i++) {
		void *p = slots[i];
		slots[i] = NULL;
		FREE_HANDED(p);
	}
}

static void NAME(rptest)(struct worker *w) {
	uint64_t ws = w->p.ws, iters = w->p.iters, threads = w->p.threads;
	struct shared *shared = w->shared;
	if (w->id == 0) {
		shared->pointers = pages(2 * threads * iters * sizeof *shared->pointers);
		shared->sizes = rptest_table(w);
		shared->mail = pages(threads * sizeof *shared->mail);
		for (uint64_t i = 0; i < threads; i++)
			shared->mail[i] = (uint32_t)(threads + i);
	}
	void **slots = pages((ws + SLOT_PAD) * sizeof *slots);
	pthread_barrier_wait(&shared->barrier);
	void **buffers = shared->pointers;
	_Atomic uint32_t *own = &shared->mail[w->id], *to = &shared->mail[(w->id + 1) % threads];
	uint32_t mine = (uint32_t)w->id;
	struct rptest_draw sizes = {shared->sizes, below(random_start(w), RPTEST_SIZES), rptest_stride(RPTEST_SIZES, w->id)};
	uint64_t hop = rptest_stride(ws, w->id), s = 0;
	idle(w);
	NAME(rptest_fill)(w, &sizes, slots, ws, 0, 1, ws);
	begin(w);
	for (uint64_t n = 0; n != w->p.rounds; n++) {
		mine = atomic_exchange(own, mine);
		NAME(rptest_empty)(w, buffers + mine * iters);
		if (n % RPTEST_CROSS == 1) {
			NAME(rptest_fill)(w, &sizes, buffers + mine * iters, iters, 0, 1, iters);
			mine = atomic_exchange(to, mine);
			/* a batch that nobody fetched */
			NAME(rptest_empty)(w, buffers + mine * iters);
		}
		NAME(rptest_free)(w, slots, ws, s, hop, iters);
		NAME(rptest_fill)(w, &sizes, slots, ws, s, hop, iters);
		s = (s + iters * hop) % ws;
	}
	pthread_barrier_wait(&shared->barrier); /* nobody hands on any more */
	NAME(rptest_empty)(w, buffers + *own * iters);
	end(w);
	NAME(rptest_free)(w, slots, ws, 0, 1, ws);
}

static void NAME(frag)(struct worker *w) {
	uint64_t goal = w->p.ws << 20;
	void **slots = pages((goal / frag_sizes[0] + SLOT_PAD) * sizeof *slots);
	uint64_t x = random_start(w), live[FRAG_SIZES] = {0}, to = 0;
	begin(w);
	for (int turn = 0; turn < FRAG_SIZES; turn++) {
		uint64_t from = 0, held = 0, size = frag_sizes[turn];
		to = 0;
		for (int g = 0; g < turn; g++) {
			uint64_t keep = live[g] / 10, left = keep;
			held += keep * frag_sizes[g];
			/* each block is kept with the probability left/n: keep of them in all */
			for (uint64_t n = live[g]; n != 0; n--) {
				x = step(x);
				void *p = slots[from];
				slots[from] = NULL;
				if (below(x, n) < left) {
					left--;
					slots[to] = p;
					to++;
				} else {
					FREE(p, from);
				}
				from++;
			}
			live[g] = keep;
		}
		live[turn] = (goal - held) / size;
		for (uint64_t n = live[turn]; n != 0; n--) {
			char *p = MALLOC(size, to);
			WRITE(p, 0);
			slots[to] = p;
			to++;
		}
	}
	end(w);
	for (uint64_t i = 0; i < to; i++)
		FREE(slots[i], i);
}

static void NAME(phase)(struct worker *w) {
	void **slots = pages((w->p.ws + SLOT_PAD) * sizeof *slots);
	uint64_t x = random_start(w), ws = w->p.ws;
	begin(w);
	for (uint64_t turn = 0; turn < 2 * w->p.rounds + 1; turn++) {
		uint64_t scale = 1 + turn % 2 * (PHASE_FACTOR - 1);
		uint64_t low = w->p.min * scale, span = w->p.max * scale - low + 1;
		for (uint64_t n = w->p.iters; n != 0; n--) {
			x = step(x);
			uint64_t i = below(x, ws);
			void **s = &slots[i];
			if (*s != NULL) {
				FREE(*s, i);
				*s = NULL;
			} else {
				x = step(x);
				size_t size = low + below(x, span);
				char *p = MALLOC(size, i);
				WRITE(p, 0);
				WRITE(p, size - 1);
				*s = p;
			}
		}
	}
	end(w);
	for (uint64_t i = 0; i < ws; i++)
		if (slots[i] != NULL)
			FREE(slots[i], i);
}

#define LOOP(f) {#f, NAME(f)}
static const struct loop NAME(loops)[] = {
	LOOP(random_mixed),
	LOOP(tiny_hot),
	LOOP(pages),
	LOOP(mixed),
	LOOP(larson),
	LOOP(tape),
	LOOP(alloc_test),
	LOOP(sh6bench),
	LOOP(sh8bench),
	LOOP(cache_scratch),
	LOOP(cache_thrash),
	LOOP(glibc_simple),
	LOOP(glibc_thread),
	LOOP(growth),
	LOOP(mleak),
	LOOP(malloc_large),
	LOOP(mstress),
	LOOP(xmalloc),
	LOOP(xmalloc_mixed),
	LOOP(rptest),
	LOOP(frag),
	LOOP(phase),
	{NULL, NULL},
};
#undef LOOP

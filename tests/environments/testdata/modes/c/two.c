/* A C program that loads the shared objects that its arguments name, each with a Go runtime and a
 * hakmem of its own. They work at the same time, and know nothing of each other's blocks. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static void *function(const char *file, const char *name) {
	void *lib = dlopen(file, RTLD_NOW | RTLD_LOCAL);
	void *f = lib ? dlsym(lib, name) : NULL;
	if (!f) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
	return f;
}

static void *thread(void *arg) {
	int (*work)(void) = (int (*)(void))arg;
	for (int i = 0; i < 2; i++)
		if (work() != 0)
			exit(1);
	return NULL;
}

int main(int argc, char **argv) {
	if (argc != 3)
		return 2;
	pthread_t t[2];
	for (int i = 0; i < 2; i++)
		if (pthread_create(&t[i], NULL, thread, function(argv[i + 1], "hakmem_work")) != 0)
			return 1;
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	int (*first)(int) = (int (*)(int))function(argv[1], "hakmem_blocks");
	int (*second)(int) = (int (*)(int))function(argv[2], "hakmem_blocks");
	int a = first(3), b = second(5);
	if (a != 3 || b != 5) {
		fprintf(stderr, "%d and %d blocks live, want 3 and 5\n", a, b);
		return 1;
	}
	if (first(0) != 0 || second(0) != 0) {
		fprintf(stderr, "blocks stay live\n");
		return 1;
	}
	puts("ok");
	return 0;
}

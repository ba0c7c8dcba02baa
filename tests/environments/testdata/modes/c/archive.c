/* A C program with hakmem linked in as an archive. Two of its threads work in turns. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

extern int hakmem_work(void);

static void *thread(void *unused) {
	(void)unused;
	if (hakmem_work() != 0)
		exit(1);
	return NULL;
}

int main(void) {
	for (int i = 0; i < 2; i++) {
		pthread_t t;
		if (pthread_create(&t, NULL, thread, NULL) != 0 || pthread_join(t, NULL) != 0)
			return 1;
	}
	if (hakmem_work() != 0)
		return 1;
	puts("ok");
	return 0;
}

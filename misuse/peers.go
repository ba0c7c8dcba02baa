package main

// peers are the other allocators of the comparison: glibc 2.36, jemalloc 5.3.0, gperftools 2.10
// (libtcmalloc_minimal), mimalloc 2 and 3 (release, and built with SECURE=4), snmalloc 0.7.5 (and
// its build with checks), and hardened_malloc (default and light). They ran the programs of
// mimalloc-bench's bench/security (github.com/daanx/mimalloc-bench, ce5784f1) with blocks of 8
// bytes (S) and 256 KiB (L). The letters are explained in docs/security.md.
var peers = []string{"glibc", "jemalloc", "gperftools", "mimalloc 2", "mimalloc 3", "mimalloc 2 secure", "mimalloc 3 secure", "snmalloc", "snmalloc checks", "hardened_malloc", "hardened_malloc light"}

// peerRows are the rows of the comparison. The letters in peers are in the order of the variable
// peers; name and size are the case that stands for hakmem.
var peerRows = []struct{ title, name, size, peers string }{
	{"double free S, at once", "free-freed", "tiny", "A · · · · m m · L A A"},
	{"double free S, delayed or interleaved", "free-freed-delayed", "tiny", "A · · · · m m · L A A"},
	{"double free S, after reuse", "free-reused-at-once", "tiny", "A · · · · m m · A/L A A"},
	{"double free L", "free-freed", "large", "V · · · · A m V A A A"},
	{"free of a wild or far pointer", "free-wild", "any", "V V A V V V ig ig A A A"},
	{"free((void*)1)", "free-one", "any", "V V A ig ig ig ig ig A A A"},
	{"free of stack memory", "free-stack", "any", "A V A V V V ig ig A A A"},
	{"free inside a block, or unaligned", "free-interior", "tiny", "A · · · · A · · A A A"},
	{"free of p+4096, L", "free-interior-page", "large", "A V · · · A · · A A A"},
	{"overflow by 1 byte S, at free", "overflow-1", "tiny", "· · · · · A A · · A A"},
	{"overflow by 1 byte L", "overflow-1", "large", "· · · · · A A · V V V"},
	{"overflow by 32 bytes S", "overflow-32", "tiny", "part · · · · · · L L · ·"},
	{"overflow by 32 bytes L", "overflow-32", "large", "· · · · · · · · V V V"},
	{"underflow S", "underflow-8", "tiny", "part · · · · · · · L · V"},
	{"underflow L", "underflow-16", "large", "V · · · · V V · · V V"},
	{"write after free S, then reuse", "write-after-free-work", "tiny", "· · · V V A A · · A ·"},
	{"write after free L", "write-after-free", "large", "V · · · · · · · · V V"},
	{"read or write of a block of 0 bytes (hakmem: write)", "zero-size-write", "any", "· · · · · · · · · V V"},
	{"no immediate reuse S", "immediate-reuse", "tiny", "· · · yes yes yes yes yes yes yes ·"},
	{"impossible size refused", "malloc-2^64-1", "any", "yes yes yes yes yes yes yes yes yes yes yes"},
}

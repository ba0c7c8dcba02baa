// Package offheap has types whose contents lie in hakmem's memory, outside the Go heap: the garbage
// collector neither scans nor counts them.
//
// A [Buffer] is a buffer of bytes like [bytes.Buffer], made of chunks, so that nothing is copied when
// it grows. A [String] is a string without a Go pointer, for fields of structs that live outside the
// Go heap. An [Interner] keeps one copy of each string that it is given, for many goroutines. A [Map]
// is a hash map that gives memory back when entries are deleted, and a [StringMap] is one with strings
// as keys. An [Owner] allocates blocks that can be freed one by one or all at once. A [Ref] is a number
// that stands for a pointer, for trees and graphs outside the Go heap; it knows when what it refers to
// was freed.
//
// # Ownership
//
// The memory is manual, as all of hakmem's: a Buffer is emptied by Release, a String by Free, an
// Interner, a map or an Owner by Close, what a Ref refers to by Free. What a method returns as a view of
// that memory (a []byte of [Buffer.Bytes], a string of [String.View]) is valid as long as the method
// says. Using it later is a use after free, which the collector does not prevent: keep a copy instead.
//
// A Buffer, an Interner, a map or an Owner that becomes unreachable while it holds memory is an error
// that the program survives. Some time after a garbage collection its memory is freed. [ReadAbandoned] counts such
// ones, and [hakmem.Err] reports the first of each type. The report names the function that made it if
// stacks were recorded: see [RecordStacks]. Strings and Refs have no such safety net; package hakmemtest
// finds those that a test forgets.
//
// # Running out of memory
//
// Where memory runs out, the functions and methods that need some panic with a
// [*hakmem.OutOfMemoryError], and the value that they were called on keeps what it had.
package offheap

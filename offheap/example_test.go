package offheap_test

import (
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"strings"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/offheap"
)

func ExampleBuffer() {
	var b offheap.Buffer // like a bytes.Buffer
	defer b.Release()    // but its memory is freed by hand
	fmt.Fprintf(&b, "%d bytes outside ", 23)
	io.Copy(&b, strings.NewReader("the Go heap"))
	io.Copy(os.Stdout, &b)
	// Output: 23 bytes outside the Go heap
}

// What was read is held until the next write, so it can be read again.
func ExampleBuffer_Seek() {
	var b offheap.Buffer
	defer b.Release()
	b.WriteString("twice ")
	for range 2 {
		b.Seek(0, io.SeekStart)
		io.Copy(os.Stdout, &b)
	}
	// Output: twice twice
}

// The segments convert to net.Buffers, with which a connection takes them all in one system call.
func ExampleBuffer_Segments() {
	var b offheap.Buffer
	defer b.Release()
	for range 1000 {
		b.WriteString("0123456789")
	}
	n := 0
	for _, s := range b.Segments(nil) {
		n += len(s)
	}
	fmt.Println(n, "of", b.Len())
	// Output: 10000 of 10000
}

// A struct outside the Go heap must not hold Go strings. A String takes their place.
func ExampleString() {
	type user struct {
		id   int
		name offheap.String
	}
	u := hakmem.New[user]()
	u.id, u.name = 7, offheap.MakeString("Ada")
	fmt.Println(u.name.View(), len(u.name.View()))

	name := u.name.Clone() // a Go string, for what lives longer
	u.name.Free()
	hakmem.Delete(u)
	fmt.Println(name)
	// Output:
	// Ada 3
	// Ada
}

func ExampleString_Hash() {
	a, b := offheap.MakeString("same"), offheap.MakeString("same")
	defer a.Free()
	defer b.Free()
	seed := maphash.MakeSeed()
	fmt.Println(a == b, a.Equal(b), a.Hash(seed) == b.Hash(seed))
	// Output: false true true
}

func ExampleInterner() {
	in := offheap.NewInterner()
	defer in.Close()
	var words []offheap.String // 16 bytes for each, however often it is there
	for _, w := range strings.Fields("to be or not to be") {
		words = append(words, in.Intern(w))
	}
	fmt.Println(in.Len(), words[0] == words[4], words[0] == words[1], words)
	// Output: 4 true false [to be or not to be]
}

// An Owner frees what a part of a program has forgotten.
func ExampleOwner() {
	var o offheap.Owner
	a, b := o.Malloc(100), o.Calloc(10, 8)
	o.Free(a)
	b = o.Realloc(b, 1000)
	fmt.Println(o.Len(), o.Owns(a), o.Owns(b))
	o.Close() // frees b
	// Output: 1 false true
}

func ExampleNewBuffer() {
	replies := hakmem.RegisterSite("replies") // hakmem's statistics have a line of this name
	b := offheap.NewBuffer(offheap.BufferOptions{Site: replies, Capacity: 64 << 10})
	defer b.Release()
	b.WriteString("hello")
	fmt.Println(b.Len(), b.Cap() >= 64<<10)
	// Output: 5 true
}

package grpcbuffers_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/adapters/bufferpools/grpcbuffers"
	"github.com/hakmem/hakmem/hakmemtest"
)

var _ mem.BufferPool = (*grpcbuffers.Pool)(nil)

// TestPool: buffers of all lengths are zeroed, also those that are used again; small ones are of the Go heap.
func TestPool(t *testing.T) {
	hakmemtest.NoLeaks(t)
	p := grpcbuffers.New(grpcbuffers.Options{Site: hakmem.RegisterSite("mine")})
	lengths := []int{0, 1, 1024, 1025, 4096, 32 << 10, 1 << 20}
	for range 3 {
		for _, n := range lengths {
			b := p.Get(n)
			if len(*b) != n || !bytes.Equal(*b, make([]byte, n)) {
				t.Fatalf("Get(%d): %d bytes, or not zeroed", n, len(*b))
			}
			copy(*b, bytes.Repeat([]byte{1}, n))
			p.Put(b)
		}
	}
	if got, want := p.Stats(), (grpcbuffers.Stats{Gets: 21, GoHeap: 9, Puts: 12, Ignored: 6}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	defer func() {
		if recover() == nil {
			t.Error("Get(-1) does not panic")
		}
	}()
	p.Get(-1)
}

// TestUnregisteredSite: New refuses a site that RegisterSite did not return.
func TestUnregisteredSite(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("New does not panic")
		}
	}()
	grpcbuffers.New(grpcbuffers.Options{Site: 1 << 15})
}

// TestForeign: what is not a buffer that is out is ignored.
func TestForeign(t *testing.T) {
	hakmemtest.NoLeaks(t)
	p := grpcbuffers.New(grpcbuffers.Options{})
	for _, other := range [][]byte{nil, {}, make([]byte, 2000), make([]byte, 2000)[1:]} {
		p.Put(&other)
	}
	p.Put(nil)
	b := p.Get(2000)
	middle, copied := (*b)[100:], (*b)[:10]
	p.Put(&middle)
	p.Put(&copied) // a prefix is enough
	p.Put(b)       // it was put back already
	if *b == nil || copied != nil {
		t.Errorf("only the slice that was put back becomes nil")
	}
	if got, want := p.Stats(), (grpcbuffers.Stats{Gets: 1, Puts: 1, Ignored: 4}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// collected waits until the collector has found something.
func collected(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); runtime.Gosched() { // cleanups have a goroutine of their own
		runtime.GC()
		if time.Now().After(deadline) {
			t.Fatal("the collector does not find the lost buffer")
		}
	}
}

// TestLost: a buffer that nobody has any more is reported, and freed only where the options say so.
func TestLost(t *testing.T) {
	sizes := make(chan int, 1)
	kept := grpcbuffers.New(grpcbuffers.Options{OnLost: func(size int) { sizes <- size }})
	freed := grpcbuffers.New(grpcbuffers.Options{FreeLost: true})
	var rest []byte
	func() {
		rest = *kept.Get(5000)
		freed.Get(6000)
		kept.Put(kept.Get(7000)) // not lost
	}()
	collected(t, func() bool { return kept.Stats().Lost == 1 && freed.Stats().Lost == 1 })
	if size := <-sizes; size != 5000 {
		t.Errorf("OnLost gets %d", size)
	}
	if n := freed.Stats().LiveBytes; n != 0 {
		t.Errorf("%d bytes are not freed", n)
	}
	kept.Put(&rest) // too late: nobody could know of it
	if got := kept.Stats(); got.LiveBytes != 5000 || got.Ignored != 1 {
		t.Errorf("%+v", got)
	}
	hakmem.FreeBytes(rest) // it is still there
}

// echo is a service of one method without generated code.
var echo = grpc.ServiceDesc{
	ServiceName: "test.Echo",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Echo",
		Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var m wrapperspb.BytesValue
			err := decode(&m)
			return &m, err
		},
	}},
}

// connect returns a client of an echo server, both with the pool.
func connect(t testing.TB, p mem.BufferPool) (*grpc.ClientConn, func()) {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(experimental.BufferPool(p))
	server.RegisterService(&echo, nil)
	done := make(chan error)
	go func() { done <- server.Serve(listener) }()
	client, err := grpc.NewClient("passthrough:///echo", experimental.WithBufferPool(p), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	return client, func() {
		client.Close()
		server.GracefulStop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestEcho: messages of several goroutines come back as they were, and every buffer is put back.
func TestEcho(t *testing.T) {
	hakmemtest.NoLeaks(t)
	p := grpcbuffers.New(grpcbuffers.Options{})
	client, stop := connect(t, p)
	calls := 50
	if testing.Short() {
		calls = 15
	}
	var callers sync.WaitGroup
	for c := range 4 {
		callers.Go(func() {
			for i := range calls {
				content := bytes.Repeat([]byte{byte(c), byte(i), 3}, 1+(c+i)*977%50_000)
				var got wrapperspb.BytesValue
				if err := client.Invoke(t.Context(), "/test.Echo/Echo", wrapperspb.Bytes(content), &got); err != nil {
					t.Error(err)
				} else if !bytes.Equal(got.Value, content) {
					t.Errorf("%d bytes come back as %d others", len(content), len(got.Value))
				}
			}
		})
	}
	callers.Wait()
	stop()
	s := p.Stats()
	if s.Puts < uint64(calls) {
		t.Errorf("the pool is not used: %+v", s)
	}
	if s.LiveBytes != 0 {
		t.Errorf("not all buffers were put back: %+v", s)
	}
}

func Example() {
	pool := grpcbuffers.New(grpcbuffers.Options{OnLost: func(size int) { fmt.Println("a buffer was never put back:", size) }})

	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(experimental.BufferPool(pool))
	server.RegisterService(&echo, nil)
	go server.Serve(listener)
	defer server.Stop()

	client, err := grpc.NewClient("passthrough:///echo", experimental.WithBufferPool(pool), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	var got wrapperspb.BytesValue
	err = client.Invoke(context.Background(), "/test.Echo/Echo", wrapperspb.Bytes(make([]byte, 100_000)), &got)
	fmt.Println(len(got.Value), "bytes came back", err)
	// Output: 100000 bytes came back <nil>
}

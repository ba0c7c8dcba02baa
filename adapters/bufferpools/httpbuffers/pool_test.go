package httpbuffers_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/adapters/bufferpools/httpbuffers"
	"github.com/hakmem/hakmem/hakmemtest"
)

var _ httputil.BufferPool = (*httpbuffers.Pool)(nil)

// siteStats returns the statistics of the pools' buffers.
func siteStats(name string) hakmem.SiteStats {
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	for _, site := range s.Sites {
		if site.Name == name {
			return site
		}
	}
	return hakmem.SiteStats{}
}

// TestPool: buffers have the length that was asked for, and each is another's while it is out.
func TestPool(t *testing.T) {
	hakmemtest.NoLeaks(t)
	for _, x := range []struct{ asked, size int }{{0, httpbuffers.DefaultSize}, {1, 1}, {4096, 4096}, {100_000, 100_000}} {
		p := httpbuffers.New(httpbuffers.Options{Size: x.asked})
		var out [][]byte
		for i := range 10 {
			b := p.Get()
			if len(b) != x.size || cap(b) != x.size {
				t.Fatalf("size %d: len %d, cap %d", x.asked, len(b), cap(b))
			}
			copy(b, bytes.Repeat([]byte{byte(i)}, len(b)))
			out = append(out, b)
		}
		for i, b := range out {
			if b[0] != byte(i) || b[len(b)-1] != byte(i) {
				t.Errorf("buffer %d has bytes of another", i)
			}
			p.Put(b[:0])
		}
	}
	if n := siteStats("httpbuffers").LiveBlocks; n != 0 {
		t.Errorf("%d blocks are live", n)
	}
}

// TestForeign: what the pool has not made is left alone, and what is put back twice is found.
func TestForeign(t *testing.T) {
	hakmemtest.NoLeaks(t)
	p := httpbuffers.New(httpbuffers.Options{Site: hakmem.RegisterSite("mine")})
	p.Put(nil)
	p.Put([]byte{})
	p.Put(make([]byte, 100))
	p.Put(make([]byte, 100)[1:])
	b := p.Get()
	if n := siteStats("mine").LiveBlocks; n != 1 {
		t.Errorf("the site has %d blocks, want 1", n)
	}
	p.Put(b)
	defer func() {
		var e *hakmem.MisuseError
		if err, ok := recover().(error); !ok || !errors.As(err, &e) {
			t.Errorf("second Put: %v", err)
		}
		defer func() {
			if recover() == nil {
				t.Error("a negative size is accepted")
			}
		}()
		httpbuffers.New(httpbuffers.Options{Size: -1})
	}()
	p.Put(b)
}

// TestUnregisteredSite: New refuses a site that RegisterSite did not return.
func TestUnregisteredSite(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("New does not panic")
		}
	}()
	httpbuffers.New(httpbuffers.Options{Site: 1 << 15})
}

// TestNoMemory: at a hard limit buffers come from the Go heap.
func TestNoMemory(t *testing.T) {
	hakmemtest.NoLeaks(t)
	p := httpbuffers.New(httpbuffers.Options{Size: 16 << 20})
	soft, hard, err := hakmem.SwapMemoryLimit(0, max(hakmem.Counted()+8<<20, 8<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer hakmem.SetMemoryLimit(soft, hard)
	b := p.Get()
	if len(b) != 16<<20 || siteStats("httpbuffers").LiveBlocks != 0 {
		t.Errorf("%d bytes, from hakmem", len(b))
	}
	p.Put(b)
}

// counter counts the buffers that are out.
type counter struct {
	*httpbuffers.Pool
	out, most atomic.Int64
}

func (c *counter) Get() []byte {
	n := c.out.Add(1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	return c.Pool.Get()
}

func (c *counter) Put(b []byte) {
	c.out.Add(-1)
	c.Pool.Put(b)
}

// TestReverseProxy: under load responses arrive as they were sent, and there are no more buffers than requests at a
// time, also where the sender breaks off.
func TestReverseProxy(t *testing.T) {
	hakmemtest.NoLeaks(t)
	body := bytes.Repeat([]byte("0123456789abcde"), 20_000)
	sender := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		if r.URL.Path == "/broken" {
			w.Header().Set("Content-Length", strconv.Itoa(2*n))
		}
		w.Write(body[:n])
	}))
	defer sender.Close()
	to, err := url.Parse(sender.URL)
	if err != nil {
		t.Fatal(err)
	}
	pool := &counter{Pool: httpbuffers.New(httpbuffers.Options{})}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:    func(r *httputil.ProxyRequest) { r.SetURL(to) },
		BufferPool: pool,
		ErrorLog:   nil,
	})
	defer proxy.Close()

	const clients, requests = 8, 30
	var running sync.WaitGroup
	for c := range clients {
		running.Go(func() {
			for i := range requests {
				n := (c*requests + i) * 1009 % len(body)
				path := "/whole"
				if i%10 == 9 {
					path = "/broken"
				}
				res, err := http.Get(fmt.Sprintf("%s%s?n=%d", proxy.URL, path, n))
				if err != nil {
					if path == "/whole" {
						t.Error(err)
					}
					continue
				}
				got, err := io.ReadAll(res.Body)
				res.Body.Close()
				if path == "/whole" && (err != nil || sha256.Sum256(got) != sha256.Sum256(body[:n])) {
					t.Errorf("%d bytes of %d, %v", len(got), n, err)
				}
			}
		})
	}
	running.Wait()
	proxy.Close() // waits for the requests
	if most := pool.most.Load(); pool.out.Load() != 0 || most < 1 || most > clients {
		t.Errorf("%d buffers are out, %d were at a time, want at most %d", pool.out.Load(), most, clients)
	}
	if n := siteStats("httpbuffers").LiveBlocks; n != 0 {
		t.Errorf("%d blocks are live", n)
	}
}

func Example() {
	sender := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello")
	}))
	defer sender.Close()
	to, _ := url.Parse(sender.URL)

	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:    func(r *httputil.ProxyRequest) { r.SetURL(to) },
		BufferPool: httpbuffers.New(httpbuffers.Options{}),
	})
	defer proxy.Close()

	res, err := http.Get(proxy.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	fmt.Printf("%s", text)
	// Output: hello
}

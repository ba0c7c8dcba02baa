package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/internal/export"
)

// pagePath is where programs serve the page of hakmemhttp, by its documentation.
const pagePath = "/debug/hakmem/"

func topVerb() *cli.Command {
	return &cli.Command{
		Name: "top", Usage: "show the memory of a running program, second by second", ArgsUsage: "http://HOST:PORT[/PATH/]",
		Description: "The program has to serve the page of package hakmemhttp; the address is that of the page. Without\n" +
			"a path it is " + pagePath + ". Keys: arrows and page keys scroll, space pauses, q ends.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "once", Usage: "print what there is to see after a second, and end"},
		},
		OnUsageError: badFlags,
		Action: func(ctx context.Context, c *cli.Command) error {
			page, err := pageAddress(c.Args().Slice())
			if err != nil {
				return err
			}
			out := c.Root().Writer
			if c.Bool("once") {
				samples, err := askTwice(ctx, page)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(out, strings.Join(topText(samples, columns(), plainPaint), "\n"))
				return err
			}
			f, ok := out.(*os.File)
			if !ok || !isTerminal(f) || !isTerminal(os.Stdin) {
				return usagef("top needs a terminal: use --once to print what there is to see now")
			}
			return watch(ctx, page, tea.WithOutput(f))
		},
	}
}

// columns is the width of the terminal as the shell says it, or that of the usual one.
func columns() int {
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	return 80
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// pageAddress returns the address of the page that the arguments name. It ends with a slash.
func pageAddress(args []string) (*url.URL, error) {
	const example = "http://localhost:6060"
	switch {
	case len(args) == 0:
		return nil, usagef("top needs the address of a program's hakmem page, such as %s%s; package hakmemhttp serves it", example, pagePath)
	case len(args) > 1:
		return nil, usagef("top watches one program, got %q too; start it once for each", args[1])
	}
	u, err := url.Parse(args[0])
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https":
		return nil, usagef("%q is no address of a page: write it like %s%s", args[0], example, pagePath)
	case u.Host == "" || u.Opaque != "":
		return nil, usagef("%q names no host: write it like %s%s", args[0], example, pagePath)
	}
	u.RawQuery, u.Fragment = "", ""
	switch {
	case strings.Trim(u.Path, "/") == "":
		u.Path = pagePath
	case !strings.HasSuffix(u.Path, "/"):
		u.Path += "/"
	}
	return u, nil
}

// askPage requests a part of the page, and returns the answer if it is of the given kind. The caller closes its body.
func askPage(ctx context.Context, page *url.URL, part, kind string) (*http.Response, error) {
	u := page.JoinPath(part)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	r, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	if is, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); r.StatusCode == http.StatusOK && is == kind {
		return r, nil
	}
	defer r.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(r.Body, 200)) // what it says, if anything, is for people
	if says := safe(strings.TrimSpace(string(text))); strings.HasPrefix(says, "hakmemhttp: ") {
		return nil, fmt.Errorf("%s answers %s: %s", u, r.Status, says)
	}
	return nil, fmt.Errorf("%s answers %s with %q, and is no hakmem page: is the path right, and does the program serve package hakmemhttp there?", u, r.Status, r.Header.Get("Content-Type"))
}

// askTwice returns two samples, so that there is something to say of how fast figures grow.
func askTwice(ctx context.Context, page *url.URL) (samples []export.Sample, err error) {
	r, err := askPage(ctx, page, "stream", "text/event-stream")
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	err = readEvents(r.Body, func(s export.Sample) bool {
		samples = append(samples, s)
		return len(samples) < 2
	})
	return samples, err
}

// mostEvent is the length of the longest event that is read: a program with 100 sites and a map of 1024 cells
// sends some 40 KB.
const mostEvent = 16 << 20

// readEvents calls got for each sample of a stream, until it returns false or the stream ends.
func readEvents(stream io.Reader, got func(export.Sample) bool) error {
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, mostEvent)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok { // the end of an event
			continue
		}
		var s export.Sample
		err := json.Unmarshal(data, &s)
		if err == nil {
			err = s.Check()
		}
		if err != nil {
			return err
		}
		if !got(s) {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.EOF
}

// again is the time after which a stream that ended is asked for again.
const again = 2 * time.Second

// follow sends samples and errors to a program, until ctx is done. When a stream ends it waits, and asks again.
func follow(ctx context.Context, page *url.URL, first *http.Response, wait time.Duration, send func(tea.Msg)) {
	for r, err := first, error(nil); ; {
		if err == nil {
			err = readEvents(r.Body, func(s export.Sample) bool {
				send(sampleMsg(s))
				return ctx.Err() == nil
			})
			r.Body.Close()
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, io.EOF) {
			err = errors.New("the program has ended the stream")
		}
		send(errorMsg{err})
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		r, err = askPage(ctx, page, "stream", "text/event-stream")
	}
}

// watch shows the page in a terminal until the user ends it.
func watch(ctx context.Context, page *url.URL, terminal ...tea.ProgramOption) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The first answer comes before the screen is taken, so that a mistake in the address is said like others.
	r, err := askPage(ctx, page, "stream", "text/event-stream")
	if err != nil {
		return err
	}
	p := tea.NewProgram(newTop(page.String()), append(terminal, tea.WithContext(ctx))...)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		follow(ctx, page, r, again, p.Send)
	}()
	_, err = p.Run()
	cancel()
	<-ended
	if errors.Is(err, tea.ErrInterrupted) || errors.Is(err, tea.ErrProgramKilled) && ctx.Err() != nil {
		return nil
	}
	return err
}

package main

import (
	"fmt"

	"charm.land/bubbles/v2/viewport"
	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/hakmem/hakmem/internal/export"
)

// The messages of the stream.
type (
	sampleMsg export.Sample
	errorMsg  struct{ error }
)

// keptSamples is how many samples a top remembers: as many as the longest row of little bars has.
const keptSamples = 61

// top is the page in a terminal, as bubbletea runs it.
type top struct {
	page    string
	samples []export.Sample // the oldest first
	trouble error           // why there are no new ones; nil while they come
	paused  bool
	width   int
	body    viewport.Model
}

func newTop(page string) *top {
	t := &top{page: page, body: viewport.New()}
	t.resize(80, 24)
	return t
}

func (t *top) Init() tea.Cmd { return nil }

// resize lays the page out for a terminal. A line at the top says what is shown, the last one which keys there are.
func (t *top) resize(width, height int) {
	t.width = max(width, 1)
	t.body.SetWidth(t.width)
	t.body.SetHeight(max(height-2, 1))
	t.lay()
}

// lay writes the body anew.
func (t *top) lay() {
	if len(t.samples) > 0 {
		t.body.SetContentLines(topText(t.samples, t.width, colors))
	}
}

func (t *top) Update(m tea.Msg) (tea.Model, tea.Cmd) {
	switch m := m.(type) {
	case tea.WindowSizeMsg:
		t.resize(m.Width, m.Height)
	case sampleMsg:
		t.trouble = nil
		if n := len(t.samples); n > 0 && (t.samples[n-1].PID != m.PID || t.samples[n-1].Time > m.Time) {
			t.samples = nil // another process: its counters begin anew
		}
		if n := len(t.samples); n > 0 && t.samples[n-1].Time == m.Time { // the same one again, after a new connection
			return t, nil
		}
		if t.paused {
			return t, nil
		}
		t.samples = append(t.samples, export.Sample(m))
		t.samples = t.samples[max(0, len(t.samples)-keptSamples):]
		t.lay()
	case errorMsg:
		t.trouble = m.error
	case tea.KeyPressMsg:
		switch m.String() {
		case "q", "ctrl+c", "esc":
			return t, tea.Quit
		case "space":
			t.paused = !t.paused
		case "home":
			t.body.GotoTop()
		case "end":
			t.body.GotoBottom()
		default:
			return t, t.scroll(m)
		}
	default:
		return t, t.scroll(m)
	}
	return t, nil
}

// scroll lets the body have a message.
func (t *top) scroll(m tea.Msg) (c tea.Cmd) {
	t.body, c = t.body.Update(m)
	return c
}

func (t *top) View() tea.View {
	state, color := "waiting for the first sample", paintSoft
	switch {
	case t.trouble != nil:
		state, color = "trying again: "+safe(t.trouble.Error()), paintBad
	case t.paused:
		state = "paused"
	case len(t.samples) > 0:
		s := &t.samples[len(t.samples)-1]
		state, color = fmt.Sprintf("%s (process %d), every %.3g s", safe(s.Program), s.PID, s.Every/1000), paintGood
	}
	head := ansi.Truncate(colors("hakmem top", paintTitle)+" "+colors(state, color), t.width, "…")
	foot := fmt.Sprintf("q ends, space pauses, ↑ ↓ scroll  %3.0f %%  %s", 100*t.body.ScrollPercent(), safe(t.page))
	v := tea.NewView(head + "\n" + t.body.View() + "\n" + colors(ansi.Truncate(foot, t.width, "…"), paintSoft))
	v.AltScreen = true
	v.WindowTitle = "hakmem top"
	return v
}

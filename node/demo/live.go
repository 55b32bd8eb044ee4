package demo

import (
	"fmt"
	"strings"
	"sync"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
)

// maxDecisions is how many of the last decisions the picture shows.
const maxDecisions = 7

// chartRows is the height of the chart where the terminal has room for it.
const chartRows = 10

// live is the screen of a terminal: a picture that is redrawn.
type live struct {
	program *tea.Program
	ended   sync.WaitGroup
}

func newLive(d *demo, interrupt func()) *live {
	m := picture{plan: &d.plan, kind: d.kind, colour: d.Colour, interrupt: interrupt}
	l := &live{program: tea.NewProgram(m, tea.WithOutput(d.Out), tea.WithoutSignalHandler(), tea.WithFPS(20))}
	l.ended.Go(func() {
		// A terminal that was closed ends the picture, and the demo with it.
		if _, err := l.program.Run(); err != nil {
			interrupt()
		}
	})
	return l
}

type (
	stepMsg     string
	beginMsg    bool
	decisionMsg string
)

func (l *live) step(text string)     { l.program.Send(stepMsg(text)) }
func (l *live) begin(scaled bool)    { l.program.Send(beginMsg(scaled)) }
func (l *live) tick(t tick)          { l.program.Send(t) }
func (l *live) decision(text string) { l.program.Send(decisionMsg(text)) }

// close ends the picture and restores the terminal.
func (l *live) close() {
	l.program.Quit()
	l.ended.Wait()
}

// picture is what is shown on the terminal; bubbletea's loop owns it.
type picture struct {
	plan      *scenario
	kind      kind
	colour    bool
	interrupt func()
	step      string
	scaled    bool
	now       tick
	res       result
	decisions []string
	leaving   bool
	cols      int // of the terminal; 0: not known yet
	rows      int
}

func (m picture) Init() tea.Cmd { return nil }

func (m picture) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.KeyPressMsg:
		if s := msg.String(); s == "ctrl+c" || s == "q" {
			m.leaving = true
			m.interrupt()
		}
	case tea.WindowSizeMsg:
		m.cols, m.rows = msg.Width, msg.Height
	case stepMsg:
		m.step = string(msg)
	case beginMsg:
		m.step, m.scaled = "", bool(msg)
		m.res, m.decisions, m.now = result{}, nil, tick{}
	case decisionMsg:
		line := fmt.Sprintf("%4.0fs  %s", m.now.at.Seconds(), msg)
		m.decisions = append(m.decisions[max(0, len(m.decisions)+1-maxDecisions):len(m.decisions):len(m.decisions)],
			shown(line, 5*width))
	case tick:
		m.now = msg
		m.res.add(msg)
	}
	return m, nil
}

func (m picture) View() tea.View {
	cols, rows := width, 2*chartRows+maxDecisions
	if m.cols > 0 {
		cols, rows = min(m.cols, width), m.rows
	}
	top := ansi.Wrap(m.top(cols, min(chartRows, max(rows-14, 4))), cols, "")
	var lines []string
	for _, d := range m.decisions {
		lines = append(lines, strings.Split(strings.ReplaceAll(ansi.Wordwrap(d, max(cols-7, 10), ""), "\n", "\n       "),
			"\n")...)
	}
	room := max(rows-1-strings.Count(top, "\n"), 0)
	return tea.NewView(top + strings.Join(lines[max(len(lines)-room, 0):], "\n"))
}

// top is all but the decisions: what runs, the chart, the newest numbers.
func (m picture) top(cols, height int) string {
	var b strings.Builder
	done := m.now.x / 2
	if m.scaled {
		done += 0.5
	}
	fmt.Fprintf(&b, "EffiScale demo   %s load on %d cores   q quits, and nothing is left behind\n", m.plan.shape,
		m.plan.cores)
	fmt.Fprintf(&b, "%s   %s\n\n", bar(done), m.heading())
	if c := m.res.chart(m.plan, m.colour, cols, height); c != "" {
		b.WriteString(c + "\n\n")
	}
	if m.now.at > 0 {
		t := m.now
		fmt.Fprintf(&b, "demand %.2f  use %.2f  limit %.2f cores   throttled %.0f%%   memory %s/%s   p99 %s   errors %d\n\n",
			t.demand, t.use, t.limit, t.throttled*100, t.memory, t.memLimit, short(t.p99), t.failed)
	}
	return b.String()
}

func (m picture) heading() string {
	switch {
	case m.leaving:
		return "stopping: removing everything"
	case m.step != "":
		return m.step
	}
	return runName(m.kind, m.scaled)
}

// bar is a bar of progress, 0..1.
func bar(done float64) string {
	const cells = 40
	full := min(max(int(done*cells+0.5), 0), cells)
	return strings.Repeat("█", full) + strings.Repeat("░", cells-full) + fmt.Sprintf(" %3.0f%%", done*100)
}

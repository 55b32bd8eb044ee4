package plan_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/mape/plan"
)

var update = flag.Bool("update", false, "write the decisions of the scenarios anew")

// TestScenarios plays testdata/*.txt: lines of what is sampled, and under each,
// indented, what is decided and why. What is decided takes effect at once.
//
//	policy key=value …   once, over the default policy of a host of 8 cores
//	at 90s key=value …   the window at that time; a value stays until it changes
//	run 10s every=100ms  time passes; a decision is printed when its rule changes
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := play(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got != string(text) && !*update {
				t.Errorf("decided otherwise (-update writes it):\n%s", got)
			}
		})
	}
}

type player struct {
	now     time.Time
	w       knowledge.Window
	p       knowledge.Policy
	e       knowledge.Envelope
	c       knowledge.Container
	reflex  plan.Reflex
	printed [2]string // verb and rule last printed
	out     strings.Builder
}

func play(text string) (string, error) {
	s := &player{p: serving(8)}
	s.w = knowledge.Window{
		Have: knowledge.HasCPU | knowledge.HasThrottle | knowledge.HasMemory | knowledge.HasMemoryStat |
			knowledge.HasMemoryPressure,
		Samples: 10, Since: epoch, Interval: 100 * time.Millisecond, Period: cfsPeriod, Periods: 1,
	}
	for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if strings.HasPrefix(line, "\t") {
			continue // what was decided before
		}
		fmt.Fprintln(&s.out, line)
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		if err := s.line(words); err != nil {
			return "", fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return s.out.String(), nil
}

func (s *player) line(words []string) error {
	switch words[0] {
	case "policy":
		if err := s.set(words[1:]); err != nil {
			return err
		}
		s.e = plan.Deliberate(epoch, plan.Facts{}, &s.p, knowledge.Host{CPUs: 8, Memory: 16 * knowledge.GiB}, s.e)
		return nil
	case "at":
		d, err := time.ParseDuration(words[1])
		s.now = epoch.Add(d)
		if err == nil {
			err = s.set(words[2:])
		}
		s.printed = [2]string{}
		s.decide()
		s.w.OOMKills, s.w.HighEvents, s.w.MaxEvents = 0, 0, 0
		return err
	case "run":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			return err
		}
		every := time.Second
		if len(words) > 2 {
			if every, err = time.ParseDuration(strings.TrimPrefix(words[2], "every=")); err != nil {
				return err
			}
		}
		for end := s.now.Add(d); s.now.Before(end); {
			s.now = s.now.Add(every)
			s.decide()
		}
		return nil
	}
	return fmt.Errorf("%q is no policy, at or run", words[0])
}

func (s *player) decide() {
	s.w.At = s.now
	f := analyse.Assess(s.now, &s.w, &s.p, &s.c, 10*time.Second)
	for i, d := range [...]knowledge.Decision{
		s.reflex.CPU(s.now, &f, &s.w, &s.e, &s.p),
		s.reflex.Memory(s.now, &f, &s.w, &s.e, &s.p),
	} {
		if key := d.Verb.String() + string(d.Reason.Rule); d.Verb != knowledge.Hold || key != s.printed[i] {
			s.printed[i] = key
			fmt.Fprintf(&s.out, "\t%-6s %-6s %-6s %s: %s (%s)\n", s.now.Sub(epoch), d.Resource, d.Verb, amounts(d), d.Reason,
				d.Reason.Rule)
		}
		if d.Verb == knowledge.Hold {
			continue
		}
		if d.Resource == knowledge.ResourceCPU {
			s.w.Quota = knowledge.NanoCPU(d.To)
		} else {
			s.w.MemoryLimit = knowledge.Bytes(d.To)
		}
		s.reflex.Applied(s.now, d)
	}
}

func amounts(d knowledge.Decision) string {
	show := func(v int64) string {
		switch {
		case v == 0:
			return "unlimited"
		case d.Resource == knowledge.ResourceCPU:
			return knowledge.NanoCPU(v).String()
		}
		return knowledge.Bytes(v).String()
	}
	if d.Verb == knowledge.Hold {
		return show(d.From)
	}
	return show(d.From) + " → " + show(d.To)
}

// set reads key=value words. CPU is in cores, memory in MiB.
func (s *player) set(words []string) error {
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		if d, err := time.ParseDuration(value); err == nil && s.setTime(key, d) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return err
		}
		if !s.setNumber(key, v) {
			return fmt.Errorf("unknown key %q", key)
		}
	}
	return nil
}

func (s *player) setTime(key string, d time.Duration) bool {
	switch key {
	case "interval":
		s.w.Interval = d
	case "started": // ago
		s.c.StartedAt = s.now.Add(-d)
	default:
		return false
	}
	return true
}

func (s *player) setNumber(key string, v float64) bool {
	mib := knowledge.Bytes(v * float64(knowledge.MiB))
	cpu := map[string]*knowledge.NanoCPU{
		"quota": &s.w.Quota, "usage": &s.w.Usage, "max": &s.w.UsageMax, "mean": &s.w.UsageMean, "std": &s.w.UsageStd,
		"peak60": &s.w.Usage60, "missing": &s.w.Missing, "cpu.min": &s.p.CPU.Min, "cpu.max": &s.p.CPU.Max,
	}
	memory := map[string]*knowledge.Bytes{
		"limit": &s.w.MemoryLimit, "anon": &s.w.Anon, "anonpeak": &s.w.AnonPeak,
		"memory.min": &s.p.Memory.Min, "memory.max": &s.p.Memory.Max,
	}
	number := map[string]*float64{
		"ratio": &s.w.ThrottleRatio, "psi10": &s.w.MemoryPressure.Some10, "psi60": &s.w.MemoryPressure.Some60,
		"refaults": &s.w.RefaultRate, "growth": &s.w.Growth, "cpu.target": &s.p.CPUTarget,
	}
	switch {
	case cpu[key] != nil:
		*cpu[key] = knowledge.FromCores(v)
	case memory[key] != nil:
		*memory[key] = mib
	case number[key] != nil:
		*number[key] = v
	case key == "use": // of memory, all of it working set
		s.w.MemoryUsage, s.w.WorkingSet, s.w.Hard = mib, mib, mib
	case key == "cache": // beside what is in use
		s.w.MemoryUsage, s.w.Cache = s.w.Hard+mib, mib
	case key == "throttled":
		s.w.ThrottledPeriods, s.w.ThrottledRun = uint64(v), int(v)
	case key == "samples":
		s.w.Samples = int(v)
	case key == "shrink":
		s.p.MemoryShrink = v > 0
	case key == "weight":
		s.p.CPUMode = knowledge.CPUWeight
	case key == "healthy":
		s.c.Health = knowledge.HealthHealthy
	case key == "ooms":
		s.w.OOMKills, s.w.LastOOM = uint64(v), s.now
	case key == "events":
		s.w.MaxEvents, s.w.LastMemoryEvent = uint64(v), s.now
	default:
		return false
	}
	return true
}

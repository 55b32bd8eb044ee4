package e2e

import (
	"strings"
	"testing"
	"time"
)

// TestRow106TwoDaemons: of two daemons with the same containers one changes them, and the other one
// names it (FAULTS row 106).
func TestRow106TwoDaemons(t *testing.T) {
	t.Parallel()
	first, second := newDaemon(t), newDaemon(t)
	b := first.box(t, "busy", spec{do: "cpu --cores 0.4", cpus: 0.1, memory: 64 * MiB})
	first.start()
	first.sees(b)
	second.start()
	second.sees(b)
	eventually(t, 20*time.Second, "the first daemon gives it more", func() bool { return b.kernel.Quota() > 0.2 })
	v, _ := second.view(b)
	if v.State != "observing" || !strings.Contains(v.Why, "another EffiScale daemon on this host changes its limits: process") {
		t.Errorf("the second daemon shows %q: %s", v.State, v.Why)
	}
	if n := len(second.changes(b)); n != 0 {
		t.Errorf("the second daemon made %d changes", n)
	}
	out, errs, code := second.run("scale", b.name, "--cpu", "0.3")
	if code != 6 || !strings.Contains(out+errs, "another EffiScale daemon") {
		t.Errorf("scale by the second daemon ended with %d: %s%s", code, out, errs)
	}
	second.stop()
	first.stop()
}

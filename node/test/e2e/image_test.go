package e2e

import (
	"strings"
	"testing"
	"time"
)

// TestAKnownImage: a container without limits is watched for a minute, with the
// settings as they come, before it gets a limit. A second one of the same image and
// command, of another service, starts from what the first one taught: it has limits
// that hold its use within seconds, also in the next life of the daemon after a
// kill -9, and is never killed or throttled for long by them.
func TestAKnownImage(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	d.start()
	work := spec{do: "cpu --cores 0.2"}
	limited := func(b *box, within time.Duration) time.Duration {
		t.Helper()
		began := time.Now()
		eventually(
			t,
			within,
			b.name+" has limits",
			func() bool { return b.kernel.Quota() > 0 && b.kernel.Memory() > 0 && b.kernel.Memory() < 1<<40 },
		)
		return time.Since(began)
	}
	first := d.box(t, "first", work)
	alone := limited(first, 3*time.Minute)
	time.Sleep(16 * time.Second) // the interval in which what it taught is written
	known := map[string]time.Duration{}
	for _, life := range []string{"second", "third"} {
		b := d.box(t, life, work)
		known[life] = limited(b, time.Minute)
		if q, m := b.kernel.Quota(), b.kernel.Memory(); q < 0.2 || q > cores() || m < 32*MiB {
			t.Errorf("%s: the first limits are %v cores and %d MiB", b.name, q, m/MiB)
		}
		for _, c := range d.changes(b) {
			if c.Resource == "memory" && c.From == 0 && !strings.Contains(c.Why, "known use of its image") {
				t.Errorf("%s: %s", b.name, c.Why)
			}
		}
		text, errs, code := d.run("explain", b.name)
		if code != 0 || !strings.Contains(text, "image: cpu, highest") {
			t.Errorf("explain ended with %d and says\n%s%s", code, text, errs)
		}
		if life == "second" {
			d.kill()
			d.start()
		}
	}
	var text string
	eventually(t, 30*time.Second, "twelve seconds of this life are on record", func() (ok bool) {
		var code int
		text, _, code = d.run("export", first.name, "--since", "1m")
		return code == 0
	})
	if rows := strings.Split(strings.TrimSpace(text), "\n"); len(rows) < 12 || rows[0] != "seconds,value" ||
		!strings.HasPrefix(rows[1], "0,") ||
		!strings.HasPrefix(rows[2], "1,") {
		t.Errorf("export says %s", text)
	}
	figure(
		t,
		"first limits of a container without: %.1f s alone, %.1f s when its image is known, %.1f s in the life after a kill -9",
		alone.Seconds(),
		known["second"].Seconds(),
		known["third"].Seconds(),
	)
	for life, took := range known {
		if took > 15*time.Second || took > alone/3 {
			t.Errorf("%s: first limits after %v, the first container's after %v", life, took, alone)
		}
	}
	d.stop()
}

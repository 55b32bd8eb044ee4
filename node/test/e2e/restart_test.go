package e2e

import (
	"slices"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/observer"
	"github.com/effiscale/effiscale/node/api"
)

const restarts = 20

// TestRestarts: stopping and starting the daemon under load causes no action by
// itself; pauses, respect for others' changes, originals and history survive;
// and what they start with is never less than what is in force (row 61;
// SIGTERM, row 4).
func TestRestarts(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	hungry := func(name string, labels map[string]string) *box {
		return d.box(t, name, spec{do: "cpu --cores 0.2", cpus: 0.1, memory: 64 * MiB, labels: labels})
	}
	fixed := hungry("fixed", map[string]string{"effiscale.cpu": "0.1..0.1"})
	paused, yields := hungry("paused", nil), hungry("yields", map[string]string{"effiscale.cpu": "0.05..0.1"})
	moving := d.box(t, "moving", spec{do: "http --work 10ms", cpus: 0.15, memory: 64 * MiB, network: true})
	still := []*box{fixed, paused, yields}
	all := append(slices.Clone(still), moving)
	p := moving.press(t)
	var was []observer.Container
	for _, b := range all {
		was = append(was, b.inspect())
	}
	d.start()
	if _, errs, code := d.run("pause", paused.name); code != 0 {
		t.Fatalf("pause ended with %d: %s", code, errs)
	}
	d.sees(all...)
	for _, b := range all {
		d.met(b)
	}
	yields.update(map[string]any{"NanoCpus": 60e6})
	eventually(t, 10*time.Second, "the change by hand is recorded", func() bool { return len(d.changes(yields)) > 0 })
	// What moved before the pause came is in the history after a stop.
	d.stop()
	d.start()
	d.sees(all...)
	quotas, records := map[*box]float64{}, map[*box]api.Change{}
	for _, b := range still {
		quotas[b] = b.kernel.Quota()
		if c := d.changes(b); len(c) > 0 {
			records[b] = c[0]
		}
	}
	var stops, starts []time.Duration
	for i := range restarts {
		p.rate.Store(int64(10 + 20*(i%2)))
		stops = append(stops, d.stop())
		for _, b := range all {
			b.covered(time.Second)
		}
		began := time.Now()
		d.start()
		starts = append(starts, time.Since(began))
		d.sees(all...)
		d.unmoved(still, quotas, records)
	}
	st, err := d.status()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range st.Services {
		if paused := s.Name == paused.name; (s.Paused != "") != paused {
			t.Errorf("after the restarts service %s has the pause %q", s.Name, s.Paused)
		}
	}
	if e, err := api.OpExplain.Call(t.Context(), d.Client, api.ExplainRequest{Name: moving.name}); err != nil ||
		e.OriginalCPU == nil ||
		*e.OriginalCPU != 0.15 {
		t.Errorf("the original limit is %v: %v", e.OriginalCPU, err)
	}
	stops = append(stops, d.stop())
	for i, b := range all {
		b.covered(time.Second)
		b.same(was[i])
	}
	slices.Sort(stops)
	slices.Sort(starts)
	figure(
		t,
		"%d restarts under load: stop p50 %d ms, worst %d ms; ready again p50 %d ms, worst %d ms",
		restarts,
		stops[len(stops)/2].Milliseconds(),
		stops[len(stops)-1].Milliseconds(),
		starts[len(starts)/2].Milliseconds(),
		starts[len(starts)-1].Milliseconds(),
	)
	if worst := stops[len(stops)-1]; worst > 2*time.Second {
		t.Errorf("stopping took up to %v", worst)
	}
}

// unmoved fails when a container that the daemon must leave alone was touched.
func (d *daemon) unmoved(boxes []*box, quotas map[*box]float64, newest map[*box]api.Change) {
	d.t.Helper()
	for _, b := range boxes {
		if got := b.kernel.Quota(); !near(got, quotas[b]) {
			d.t.Errorf("%s had %v cores and has %v after a restart", b.name, quotas[b], got)
		}
		var last api.Change
		if c := d.changes(b); len(c) > 0 {
			last = c[0]
		}
		if last.Seq != newest[b].Seq {
			d.t.Errorf("a restart alone made %+v", last)
		}
	}
}

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/observer"
	"github.com/effiscale/effiscale/node/api"
)

// killCount is how often the daemon is killed.
func killCount() int {
	if long() {
		return 52
	}
	return 20
}

// promise is a change that the daemon acknowledged.
type promise struct {
	seq      uint64
	resource string
	to       int64
}

// client asks for limits again and again and keeps what was acknowledged.
type client struct {
	mu     sync.Mutex
	kept   []promise
	failed int
}

// ask runs until ctx ends; every other request is for memory.
func (c *client) ask(ctx context.Context, d *daemon, b *box, life int) {
	for i := 0; ctx.Err() == nil; i++ {
		r := api.ScaleRequest{Container: b.name, Key: fmt.Sprintf("life-%d-%d", life, i)}
		if i%2 == 0 {
			r.CPU = 0.2 + 0.01*float64((life*7+i)%20)
		} else {
			r.Memory = int64(64+(life*5+i)%32) * MiB
		}
		res, err := api.OpScale.Call(ctx, d.Client, r)
		c.mu.Lock()
		if err != nil {
			c.failed++
		}
		for _, one := range res.Changes {
			if err == nil {
				c.kept = append(c.kept, promise{one.Seq, one.Resource, one.To})
			}
		}
		c.mu.Unlock()
		if err != nil {
			_ = waitFor(20*time.Millisecond, func() bool { return ctx.Err() != nil })
		}
	}
}

// TestKill kills the real daemon with -9 at random moments, also while it
// starts, while loads that move make it act and requests are acknowledged. After
// each start the file opens, every acknowledged action stands in the history with
// an outcome, none is open, and no container has noticed (rows 2 and 3 on one
// host; rows 1 and 52 as far as a process can show them).
//
// Three starts in a row without an orderly stop are a crash loop, so every third
// life ends in order.
func TestKill(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 1))
	d := newDaemon(t, "STORE_FLUSH_EVERY=1s", "LIMITS_ACTIONS_PER_MINUTE=600")
	bounds := map[string]string{"effiscale.cpu": "0.1..0.6", "effiscale.memory": "48MiB..128MiB"}
	moving := d.box(t, "moving", spec{do: "http --work 10ms", cpus: 0.2, memory: 64 * MiB, network: true, labels: bounds})
	asked := d.box(t, "asked", spec{do: "idle", cpus: 0.2, memory: 64 * MiB, labels: bounds})
	was := map[*box]observer.Container{moving: moving.inspect(), asked: asked.inspect()}
	p := moving.press(t)
	c, kills := &client{}, killCount()
	for killed, life := 0, 0; killed < kills; life++ {
		p.rate.Store(int64(5 + chance.IntN(40)))
		orderly := life%3 == 2
		d.launch()
		if !orderly && chance.IntN(5) == 0 { // in the middle of the start
			time.Sleep(time.Duration(chance.IntN(150)) * time.Millisecond)
			d.kill()
			killed++
			continue
		}
		d.ready()
		d.verify(c, was)
		ctx, cancel := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		asking.Go(func() { c.ask(ctx, d, asked, life) })
		time.Sleep(200*time.Millisecond + time.Duration(chance.IntN(900))*time.Millisecond)
		if orderly {
			cancel()
			asking.Wait()
			if took := d.stop(); took > 2*time.Second {
				t.Errorf("stopping took %v", took)
			}
			moving.covered(time.Second)
			asked.covered(time.Second)
			continue
		}
		d.kill()
		killed++
		cancel()
		asking.Wait()
	}
	d.start()
	d.verify(c, was)
	figure(
		t,
		"%d kills with -9: %d acknowledged actions, all in the history with an outcome; %d requests had no answer",
		kills,
		len(c.kept),
		c.failed,
	)
	if len(c.kept) < kills/4 { // hundreds where the machine has nothing else to do
		t.Errorf("only %d actions were acknowledged: the test shows little", len(c.kept))
	}
	for b := range was {
		// A crash must not make its own work look like a person's, nor the way back
		// lead to it.
		if c, ok := has(d.changes(b), "external", "cpu"); ok {
			t.Errorf("its own change counts as somebody else's: %+v", c)
		}
		if c, ok := has(d.changes(b), "external", "memory"); ok {
			t.Errorf("its own change counts as somebody else's: %+v", c)
		}
		if e, err := api.OpExplain.Call(t.Context(), d.Client, api.ExplainRequest{Name: b.name}); err != nil ||
			*e.OriginalCPU != 0.2 ||
			*e.OriginalMemory != 64*MiB {
			t.Errorf("the way back of %s leads to %v cores, %v bytes: %v", b.name, *e.OriginalCPU, *e.OriginalMemory, err)
		}
	}
	d.stop()
	moving.covered(time.Second)
	asked.covered(time.Second)
}

// verify checks the state right after a start.
func (d *daemon) verify(c *client, was map[*box]observer.Container) {
	t := d.t
	t.Helper()
	st, err := d.status()
	if err != nil {
		t.Fatal(err)
	}
	aside, _ := filepath.Glob(d.path("data/*corrupt*"))
	if st.Node.Store != "ok" || st.Node.SafeMode || len(aside) > 0 {
		t.Fatalf("store %q, safe mode %v, set aside %v", st.Node.Store, st.Node.SafeMode, aside)
	}
	found := map[uint64]api.Change{}
	for b, before := range was {
		b.same(before)
		if q, m := b.kernel.Quota(), b.kernel.Memory(); q < 0.099 || q > 0.601 || m < 48*MiB || m > 128*MiB {
			t.Errorf("%s has %v cores and %d MiB, outside its bounds", b.name, q, m/MiB)
		}
		var last uint64
		held := b.inspect().HostConfig.Memory
		told, newest := held == before.HostConfig.Memory, 0
		for _, ch := range d.changes(b) {
			if ch.Resource == "memory" && newest < 2 { // the last one may not have arrived
				newest++
				told = told || ch.To == held
			}
			if ch.Seq == 0 { // quota moves that are not folded into a record yet
				continue
			}
			if last > 0 && ch.Seq >= last {
				t.Errorf("the history of %s is not in order: %d after %d", b.name, ch.Seq, last)
			}
			last = ch.Seq
			found[ch.Seq] = ch
			if ch.Result == "open" && time.Since(ch.At) > 5*time.Second {
				t.Errorf("an action is still open: %+v", ch)
			}
		}
		if !told { // recorded before it is sent
			t.Errorf("%s has %d bytes, of which the history knows nothing", b.name, held)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.kept[max(0, len(c.kept)-400):] {
		ch, ok := found[one.seq]
		if !ok || ch.To != one.to || ch.Resource != one.resource || ch.Result == "open" {
			t.Fatalf("acknowledged %+v, in the history: %v %+v", one, ok, ch)
		}
	}
}

// TestCrashLoop: after three crashes within five minutes the daemon only
// measures; people may still ask, and an orderly restart ends it (row 53).
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	b := d.box(t, "web", spec{do: "http --work 10ms", cpus: 0.1, memory: 64 * MiB, network: true})
	p := b.press(t)
	for range 3 {
		d.start()
		d.kill()
	}
	d.start()
	d.sees(b)
	st, err := d.status()
	if err != nil || !st.Node.SafeMode || !st.Degraded {
		t.Fatalf("after three crashes: safe mode %v, degraded %v, %v", st.Node.SafeMode, st.Degraded, err)
	}
	p.rate.Store(30)
	hold(t, 6*time.Second, "in safe mode nothing is changed", func() bool { return near(b.kernel.Quota(), 0.1) })
	if _, _, code := d.run("status"); code != 3 {
		t.Errorf("status ended with %d, want 3: degraded", code)
	}
	if _, errs, code := d.run("scale", b.name, "--cpu", "0.12"); code != 0 || !near(b.kernel.Quota(), 0.12) {
		t.Errorf("a person's request ended with %d: %s", code, errs)
	}
	if _, errs, code := d.run("resume", b.name); code != 0 {
		t.Errorf("resume ended with %d: %s", code, errs)
	}
	d.stop()
	d.start()
	eventually(t, 40*time.Second, "after an orderly restart it acts", func() bool { return b.kernel.Quota() > 0.2 })
	d.stop()
}

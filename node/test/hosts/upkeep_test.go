package hosts

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/node/api"
)

// TestLostDisk: a node without its disk is a new one of the old name; its terms
// come back from its peers, and so does what is known of its image.
func TestLostDisk(t *testing.T) {
	needAll(t)
	began := time.Now()
	f := newFleet(t, 5).start().watch()
	lost := f.hosts[2]
	// What is younger than two minutes is told nobody. All containers are of one image,
	// so that a host by itself has watched it for as long as all of its own together.
	known := 0.0
	eventually(t, 4*time.Minute, "the hosts have told each other of the image", func() bool {
		known = f.on("web", f.hosts[0])[0].known()
		return known > 3*float64(len(services()))*time.Since(began).Seconds()
	})
	was := f.terms()
	before := lost.short()
	lost.daemon().kill()
	f.planned(time.Now(), 30*time.Second, f.without(lost)...)
	lost.wipe()
	at := time.Now()
	lost.start()
	eventually(t, 20*time.Second, "its containers are planned for", func() bool {
		for _, b := range f.on("", lost) {
			if is, ok := b.inForce(); !ok || is.round < was[b.service].round {
				return false
			}
		}
		return true
	})
	figure(t, "a node without its disk is planned for again after %v", time.Since(at).Round(100*time.Millisecond))
	// By then its own containers cannot have taught it a tenth of that.
	again := 0.0
	if !waitFor(time.Until(at.Add(25*time.Second)), func() bool {
		again = f.on("web",
			lost)[0].known()
		return again > known/2
	}) {
		t.Errorf("of the image, which others have watched for %.0f s, it knows %.0f s, %v after its start", known, again, time.Since(at))
	}
	figure(t, "a node without its disk knows its image again, %.0f s of %.0f s of watching, %v after its start", again, known, time.Since(at).Round(100*time.Millisecond))
	if lost.short() == before {
		t.Error("it has the identity of before, of which nothing was left")
	}
	f.together(time.Minute, f.hosts...)
	f.intact()
}

// known is for how long the container's image was watched, by all that this host has
// heard of, in seconds.
func (b *box) known() float64 {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	e, err := api.OpExplain.Call(ctx, b.host.Client, api.ExplainRequest{Name: b.name})
	if err != nil {
		return 0
	}
	for _, s := range e.Signals {
		if strings.HasPrefix(s.Name, "image: watched for") {
			return s.Value
		}
	}
	return 0
}

// TestRow75RollingRestart: one host after the other goes over to another version
// under load. The containers do not notice, and there is always an owner.
func TestRow75RollingRestart(t *testing.T) {
	needAll(t)
	f := newFleet(t, 5).start().watch()
	old, err := f.hosts[0].status()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for _, h := range f.hosts {
		h.program = rig.newer
		at := time.Now()
		h.stop()
		took := f.planned(at, 20*time.Second, f.without(h)...)
		t.Logf("%s stopped: planned for by the others after %v", h.name(), took.Round(10*time.Millisecond))
		h.start()
		f.settle(time.Minute)
	}
	figure(t, "five hosts went over to another version in %v", time.Since(began).Round(time.Second))
	m, err := f.hosts[0].members()
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range m.Members {
		if one.Status == "alive" && one.Version == old.Version {
			t.Errorf("%s still has version %s", one.Name, one.Version)
		}
	}
	f.intact()
}

// TestRow27EngineRestarted: an Engine that restarts takes its host's containers
// along. No owner takes that for a drop of demand, here or elsewhere.
func TestRow27EngineRestarted(t *testing.T) {
	needAll(t)
	f := newFleet(t, 3).start().watch()
	h := f.hosts[1]
	time.Sleep(20 * time.Second) // two reports, so that there is something to be wrong about
	was := map[*box]float64{}
	for _, b := range f.on("", f.without(h)...) {
		was[b] = b.kernel.Quota()
	}
	h.restartEngine()
	for _, b := range f.on("", h) {
		eventually(t, 20*time.Second, b.name+" runs again", func() bool { return b.inspect().State.Running })
		b.began = b.inspect()
	}
	eventually(t, 30*time.Second, "its daemon sees them", func() bool {
		st, err := h.status()
		seen := 0
		for _, c := range st.Containers { // those of all hosts
			if strings.HasSuffix(c.Name, "-on-"+h.name()) && c.State != "unmeasured" {
				seen++
			}
		}
		return err == nil && seen == len(services())
	})
	hold(t, 30*time.Second, "nobody shrinks to nothing", func() bool {
		for b, cpu := range was {
			if b.kernel.Quota() < min(cpu, 0.06) {
				return false
			}
		}
		return true
	})
	f.settle(30 * time.Second)
	f.intact()
}

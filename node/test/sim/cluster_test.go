// Package simtest runs whole clusters in virtual time: membership, ring, terms,
// calls and plans as the daemon has them, over a network in memory that loses,
// delays and cuts. Only the containers are made up.
package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/mape/image"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/node/cluster"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/trust"
	"github.com/effiscale/effiscale/node/test/sim/simnet"
)

const (
	gossipPort, callPort = 7946, 7947
	every                = 10 * time.Second
)

// disk is what a node has when it starts again.
type disk struct {
	mu    sync.Mutex
	id    *trust.Identity
	epoch uint64
	terms map[knowledge.ServiceKey]knowledge.Term
	known cluster.Membership
	full  bool
	ever  map[knowledge.ServiceKey]knowledge.Term // obeyed, in all starts; guarded by host.mu
}

var errFull = errors.New("no space left on device")

func (d *disk) SaveTerms(t map[knowledge.ServiceKey]knowledge.Term) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full {
		return errFull
	}
	for key, v := range t {
		d.terms[key] = v
	}
	return nil
}

func (d *disk) saved(key knowledge.ServiceKey) knowledge.Term {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.terms[key]
}

func (d *disk) SaveMembers(m cluster.Membership) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full {
		return errFull
	}
	d.known = m
	return nil
}

func (d *disk) members() cluster.Membership {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known
}

// host is one node with its containers.
type host struct {
	w      *world
	name   string
	ip     string
	net    *simnet.Host
	disk   *disk
	c      *cluster.Cluster
	cancel context.CancelFunc
	life   sync.WaitGroup // what runs until it ends

	mu      sync.Mutex // guards what follows
	runs    []knowledge.ServiceKey
	obeyed  map[knowledge.ServiceKey]knowledge.Term
	at      map[knowledge.ServiceKey]time.Time
	applied map[knowledge.ContainerID]knowledge.Envelope // the newest
	left    bool                                         // the cluster, since its start
	forgot  bool                                         // its voters: its disk was lost, or it left without a majority
	fault   string
	// wait puts off the first report, so that not all hosts speak at once.
	wait  time.Duration
	facts plan.Facts   // of all containers
	ahead atomic.Int64 // of its clock, in nanoseconds
}

// Obey holds each intent against what must always hold: no term ever goes back, and
// while what is known of a container stays the same, nothing that it may use shrinks.
func (h *host) ApplyIntents(_ context.Context, intents []knowledge.Intent) (mape.IntentResult, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, in := range intents {
		for _, a := range in.Envelopes {
			if prev, ok := h.applied[a.ID]; ok && plan.Cuts(&a.Envelope, &prev) {
				h.fault = fmt.Sprintf("%s is to shrink %s in %v: from %+v to %+v", h.name, a.ID, in.Term, prev, a.Envelope)
			}
			h.applied[a.ID] = a.Envelope
		}
		if h.left && in.Term.Owner == h.c.Self() && in.Term.After(h.disk.saved(in.Service)) {
			// It is alone, and its disk is full: no other node ever sees this term.
			h.obeyed[in.Service], h.at[in.Service] = in.Term, time.Now()
			continue
		}
		if last := h.disk.ever[in.Service]; last.After(in.Term) {
			h.fault = fmt.Sprintf("%s obeys %v of %s after %v", h.name, in.Term, in.Service, last)
		}
		h.disk.ever[in.Service] = in.Term
		h.w.mu.Lock()
		for _, o := range h.w.hosts {
			if (o == h || o.disk.id.ID() == in.Term.Owner) && in.Term.After(o.disk.saved(in.Service)) {
				h.fault = fmt.Sprintf("%s obeys %v of %s, which is not on the disk of %s", h.name, in.Term, in.Service, o.name)
			}
		}
		h.w.mu.Unlock()
		h.obeyed[in.Service], h.at[in.Service] = in.Term, time.Now()
	}
	return mape.IntentResult{}, nil
}

func (h *host) Envelopes(context.Context, knowledge.ServiceKey) (map[knowledge.ContainerID]knowledge.Envelope, error) {
	return nil, nil
}
func (h *host) ReportSoon(context.Context) error                     { return nil }
func (h *host) ImageDigests(context.Context) ([]image.Digest, error) { return nil, nil }
func (h *host) ImageCopies(context.Context, []image.Digest, int) ([]image.Copy, error) {
	return nil, nil
}
func (h *host) MergeImages(context.Context, []image.Copy) (int, error) { return 0, nil }

func (h *host) report() {
	var out []plan.Report
	h.mu.Lock()
	runs := slices.Clone(h.runs)
	h.mu.Unlock()
	for _, key := range runs {
		p := knowledge.Policy{Managed: true, Mode: knowledge.ModeAuto, ThrottleTarget: 0.06, CPUPercentile: 0.95,
			MemoryPercentile: 0.98}
		out = append(out, plan.Report{Service: key, Host: h.c.Self(), CPUs: 4, Memory: 8 * knowledge.GiB,
			Replicas: []plan.Reported{{ID: knowledge.ContainerID(h.name + "-" + string(key)), Policy: p, Facts: h.facts}}})
	}
	h.c.Report(out)
}

// world is a cluster.
type world struct {
	t     *testing.T
	net   *simnet.Net
	hosts []*host
	mu    sync.Mutex // guards which disk a host has
	ended bool
}

func newWorld(t *testing.T, n, services int) *world {
	w := &world{t: t, net: simnet.New(1)}
	t.Cleanup(w.end) // of a bubble that fails: else its goroutines' stacks are all that one sees
	for i := range n {
		ip := fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)
		h := &host{w: w, name: fmt.Sprintf("n%d", i+1), ip: ip, net: w.net.Host(ip), disk: newDisk(t)}
		for s := range services {
			h.runs = append(h.runs, knowledge.ServiceKey(fmt.Sprintf("s%d", s)))
		}
		w.hosts = append(w.hosts, h)
	}
	return w
}

// newDisk is empty but for a key: a node that lost what it promised is another one.
func newDisk(t *testing.T) *disk {
	t.Helper()
	id, err := trust.NewIdentity(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &disk{id: id, terms: map[knowledge.ServiceKey]knowledge.Term{}, ever: map[knowledge.ServiceKey]knowledge.Term{}}
}

func (h *host) start() {
	h.w.t.Helper()
	h.obeyed, h.at, h.left = map[knowledge.ServiceKey]knowledge.Term{}, map[knowledge.ServiceKey]time.Time{}, false
	h.applied = map[knowledge.ContainerID]knowledge.Envelope{}
	tr, err := h.net.Bind(gossipPort)
	if err != nil {
		h.w.t.Fatal(err)
	}
	l, err := h.net.Listen(callPort)
	if err != nil {
		h.w.t.Fatal(err)
	}
	h.disk.epoch = max(h.disk.epoch+1, uint64(h.now().Unix())) // as the daemon has it
	seed := net.JoinHostPort(h.w.hosts[0].ip, fmt.Sprint(gossipPort))
	h.c, err = cluster.New(cluster.Options{
		Identity: h.disk.id, Epoch: h.disk.epoch, Meta: member.Meta{Name: h.name, Cores: 4 * knowledge.OneCPU,
			Memory: 8 * knowledge.GiB},
		Member: member.Options{Cluster: "sim", Bind: net.JoinHostPort(h.ip, fmt.Sprint(gossipPort)), Transport: tr,
			Join: []string{seed}},
		Listener: l, Dial: h.net.Dial, DeliberateEvery: every, Terms: h.disk.terms, Known: h.disk.known, Keeper: h.disk,
		Log: h.w.log(h.name), Now: h.now,
	}, h)
	if err != nil {
		h.w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	h.life.Go(func() { h.c.Run(ctx) })
	h.life.Go(func() {
		select {
		case <-ctx.Done():
		case <-time.After(h.wait):
		}
		for t := time.NewTicker(every); ; {
			h.report()
			select {
			case <-ctx.Done():
				t.Stop()
				return
			case <-t.C:
			}
		}
	})
}

// now blocks with a frozen host where the tick calls it.
func (h *host) now() time.Time {
	if !h.net.Frozen() {
		return time.Now().Add(time.Duration(h.ahead.Load()))
	}
	pc := make([]uintptr, 4)
	frames := runtime.CallersFrames(pc[:runtime.Callers(2, pc)])
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		if strings.HasSuffix(f.Function, "cluster.(*Cluster).Run") {
			h.net.Stand()
		}
	}
	return time.Now().Add(time.Duration(h.ahead.Load()))
}

// kill ends a node without a leave notice.
func (h *host) kill() {
	h.net.Down()
	h.cancel()
	h.life.Wait()
	_ = h.c.Close()
	h.c = nil
}

// settled reports whether all living hosts obey one and the same owner for each service;
// a host that left obeys itself.
func (w *world) settled() (why string) {
	owner := map[knowledge.ServiceKey]knowledge.Term{}
	for _, h := range w.hosts {
		if h.c == nil {
			continue
		}
		h.mu.Lock()
		for _, key := range h.runs {
			t, ok := h.obeyed[key]
			if !ok {
				why = fmt.Sprintf("%s has no owner for %s", h.name, key)
			} else if h.left {
				if t.Owner != h.c.Self() {
					why = fmt.Sprintf("%s has left and obeys %v for %s", h.name, t, key)
				}
				continue
			} else if o, seen := owner[key]; seen && o != t {
				why = fmt.Sprintf("%s: %v and %v", key, o, t)
			}
			owner[key] = t
		}
		h.mu.Unlock()
	}
	for key, t := range owner {
		alive := false
		for _, h := range w.hosts {
			alive = alive || h.c != nil && !h.left && h.c.Self() == t.Owner
		}
		if !alive && why == "" {
			why = fmt.Sprintf("%s is owned by a node that is gone", key)
		}
	}
	return why
}

func (w *world) until(most time.Duration, what string) time.Duration {
	w.t.Helper()
	began := time.Now()
	for w.settled() != "" {
		if time.Since(began) > most {
			for _, h := range w.hosts {
				if h.c != nil {
					h.mu.Lock()
					w.t.Logf("%s %s obeys %v\n  view %v", h.name, h.c.Self().Short(), h.obeyed, h.c.View().Terms)
					h.mu.Unlock()
					w.t.Logf("  %+v waiting %d claims %d", h.c.View().Counts, h.c.View().Waiting, h.c.View().Claims)
				}
			}
			w.t.Fatalf("%s: not within %v: %s", what, most, w.settled())
		}
		time.Sleep(50 * time.Millisecond)
	}
	return time.Since(began)
}

// stop ends a node in order, with a leave notice.
func (h *host) stop() {
	h.cancel()
	h.life.Wait()
	_ = h.c.Close()
	h.net.Down()
	h.c = nil
}

// leave takes a node out of the cluster; its daemon goes on alone. It leaves also when no other node gets its
// leave notice.
func (h *host) leave() {
	h.mu.Lock()
	h.left = true
	h.mu.Unlock()
	h.forgot = h.forgot || !h.c.View().Majority
	_ = h.c.Leave()
}

func (w *world) end() {
	if w.ended {
		return
	}
	w.ended = true
	for _, h := range w.hosts {
		h.net.Thaw()
		if h.c != nil {
			h.kill()
		}
		if h.fault != "" {
			w.t.Error(h.fault)
		}
	}
	w.net.Close()
	time.Sleep(time.Minute) // memberlist's last probes
}

// TestRow1OwnerCrashes: each of five nodes in turn crashes and comes back; another
// one plans for its services within three seconds.
func TestRow1OwnerCrashes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 5, 20)
		for _, h := range w.hosts {
			h.start()
		}
		t.Logf("settled after %v", w.until(30*time.Second, "the start"))
		for _, h := range w.hosts {
			h.kill()
			t.Logf("%s crashed: its services are planned for after %v", h.name,
				w.until(3500*time.Millisecond, h.name+" crashed"))
			time.Sleep(5 * time.Second)
			h.net.Up()
			h.start()
			w.until(30*time.Second, h.name+" is back")
			time.Sleep(30 * time.Second)
			w.until(10*time.Second, h.name+" is back for a while")
		}
		w.end()
	})
}

// log is of one node; only EFFISCALE_SIM_LOG=1 shows it.
func (w *world) log(name string) zerolog.Logger {
	if os.Getenv("EFFISCALE_SIM_LOG") != "1" {
		return zerolog.Nop()
	}
	return zerolog.New(os.Stderr).With().Str("node", name).Logger().Hook(zerolog.HookFunc(func(e *zerolog.Event,
		_ zerolog.Level, _ string) {
		e.Str("t", time.Now().Format("15:04:05.000"))
	}))
}

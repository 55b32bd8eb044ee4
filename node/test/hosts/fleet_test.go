package hosts

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/effiscale/effiscale/node/api"
)

// fleet is a cluster with work to do: each service has a replica on every host.
type fleet struct {
	t     *testing.T
	hosts []*host
	boxes []*box
	rose  map[*box]uint64 // highest round seen in force
}

const (
	leastCPU, mostCPU       = 0.05, 0.5
	leastMemory, mostMemory = 32 * MiB, 128 * MiB
)

func services() []string { return []string{"web", "shop", "mail"} }

// newFleet makes hosts 1 to n with containers under load; no daemon runs yet.
func newFleet(t *testing.T, n int) *fleet {
	t.Helper()
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i + 1
	}
	f := &fleet{t: t, hosts: hosts(t, numbers...), rose: map[*box]uint64{}}
	made := make([][]*box, n)
	var wg sync.WaitGroup
	for i, h := range f.hosts {
		h.configure(h.name(), section(h.n, keyFile(t, "key")))
		wg.Go(func() {
			for _, s := range services() {
				b, err := h.box(spec{service: s, do: "cpu --cores 0.06", cpus: 0.1, memory: 64 * MiB, restart: "always",
					labels: map[string]string{
						"effiscale.cpu":    fmt.Sprintf("%g..%g", leastCPU, mostCPU),
						"effiscale.memory": fmt.Sprintf("%d..%d", leastMemory, mostMemory),
					}})
				if err != nil {
					t.Error(err)
					return
				}
				made[i] = append(made[i], b)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	f.boxes = slices.Concat(made...)
	return f
}

const clusterName = "hosts"

// section is a host's part of the cluster; the first host is everybody's seed.
func section(n int, key string) string {
	return fmt.Sprintf("[cluster]\nname = %q\nbind = \"%s:7946\"\njoin = [\"%s:7946\"]\nkey_file = %q\n", clusterName, address(n), address(1), key)
}

// keyFile is a file with a key that lasts for the run.
func keyFile(t *testing.T, name string) string {
	t.Helper()
	path := rig.dir + "/" + name
	if _, err := os.Stat(path); err == nil {
		return path
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	if err := os.WriteFile(path, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// start starts all daemons at once and waits until they are one cluster at work.
func (f *fleet) start() *fleet {
	f.t.Helper()
	began := time.Now()
	for _, h := range f.hosts {
		h.launch()
	}
	for _, h := range f.hosts {
		h.ready()
	}
	f.settle(time.Minute)
	figure(f.t, "%d daemons are one cluster at work %v after their start", len(f.hosts),
		(time.Since(began) - calm).Round(100*time.Millisecond))
	return f
}

// term is what a host obeys for a service.
type term struct {
	round uint64
	owner string // first digits of a node's id
}

// inForce is the term that the container's host obeys; ok is false when it obeys
// none, or does not answer.
func (b *box) inForce() (t term, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	e, err := api.OpExplain.Call(ctx, b.host.Client, api.ExplainRequest{Name: b.name})
	if err != nil {
		return t, false
	}
	round, owner, ok := strings.Cut(e.Term, " of ")
	t.owner = owner
	t.round, err = strconv.ParseUint(round, 10, 64)
	return t, ok && err == nil && t.round > 0
}

// members is the cluster as one node sees it.
func (h *host) members() (api.Members, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return api.OpMembers.Call(ctx, h.Client, api.None{})
}

// short is how a term names this node; "" when it does not answer.
func (h *host) short() string {
	m, err := h.members()
	if err != nil {
		return ""
	}
	return m.Self[:min(8, len(m.Self))]
}

// on are the containers of some hosts, of one service or, with "", of all.
func (f *fleet) on(service string, hs ...*host) (boxes []*box) {
	for _, b := range f.boxes {
		if (service == "" || b.service == service) && slices.Contains(hs, b.host) {
			boxes = append(boxes, b)
		}
	}
	return boxes
}

// agreed is the term that all of some hosts obey for a service; ok is false while
// they differ.
func (f *fleet) agreed(service string, hs ...*host) (t term, ok bool) {
	for i, b := range f.on(service, hs...) {
		is, ok := b.inForce()
		if !ok || i > 0 && is != t {
			return is, false
		}
		t = is
	}
	return t, true
}

// ownerOf is the host that plans for a service.
func (f *fleet) ownerOf(service string) *host {
	f.t.Helper()
	t, ok := f.agreed(service, f.hosts...)
	for _, h := range f.hosts {
		if ok && h.short() == t.owner {
			return h
		}
	}
	f.t.Fatalf("nobody owns %s: %+v, agreed: %v", service, t, ok)
	return nil
}

// settled says what is missing until some hosts are one cluster in which each
// service has one owner among them; "" is nothing.
func (f *fleet) settled(hs ...*host) string {
	ring, shorts := "", map[string]bool{}
	for _, h := range hs {
		m, err := h.members()
		if err != nil {
			return fmt.Sprintf("%s does not answer: %v", h.name(), err)
		}
		shorts[m.Self[:min(8, len(m.Self))]] = true
		alive := 0
		for _, one := range m.Members {
			if one.Status == "alive" && one.State == "participant" {
				alive++
			}
		}
		if ring == "" {
			ring = m.Ring
		}
		if alive != len(hs) || m.Ring != ring || m.RingsDiffer {
			return fmt.Sprintf("%s sees %d participants and ring %s (others: %s)", h.name(), alive, m.Ring, ring)
		}
	}
	for _, s := range services() {
		if t, ok := f.agreed(s, hs...); !ok || !shorts[t.owner] {
			return fmt.Sprintf("%s: term %+v, agreed: %v", s, t, ok)
		}
	}
	return ""
}

// settle waits until the hosts whose daemons run are one cluster.
func (f *fleet) settle(within time.Duration) {
	f.t.Helper()
	f.together(within, f.running()...)
}

// calm is how long a cluster must stay as it is: what its members say of themselves
// is known a little before its ring follows.
const calm = 3 * time.Second

// together waits until some hosts are one cluster, and is how long that took.
func (f *fleet) together(within time.Duration, hs ...*host) time.Duration {
	f.t.Helper()
	began, missing := time.Now(), ""
	var since time.Time
	was := map[string]term{}
	ok := waitFor(within+calm, func() bool {
		missing = f.settled(hs...)
		same := missing == ""
		for _, s := range services() {
			is, _ := f.agreed(s, hs...)
			same = same && is == was[s]
			was[s] = is
		}
		if !same {
			since = time.Now()
		}
		return missing == "" && time.Since(since) >= calm
	})
	if !ok {
		f.t.Fatalf("not one cluster within %v: %s", within, missing)
	}
	return since.Sub(began)
}

func (f *fleet) running() (hs []*host) {
	for _, h := range f.hosts {
		if h.daemon().alive() {
			hs = append(hs, h)
		}
	}
	return hs
}

func (f *fleet) without(gone ...*host) (hs []*host) {
	for _, h := range f.hosts {
		if !slices.Contains(gone, h) {
			hs = append(hs, h)
		}
	}
	return hs
}

// planned waits until other hosts obey, for all services, a living owner among
// them, and is the time that it took from an event on.
func (f *fleet) planned(since time.Time, within time.Duration, hs ...*host) time.Duration {
	f.t.Helper()
	ids := map[string]bool{}
	for _, h := range hs {
		ids[h.short()] = true
	}
	what := ""
	ok := waitFor(within-time.Since(since), func() bool {
		for _, s := range services() {
			if t, ok := f.agreed(s, hs...); !ok || !ids[t.owner] {
				what = fmt.Sprintf("%s: term %+v, agreed: %v", s, t, ok)
				return false
			}
		}
		return true
	})
	if !ok {
		f.t.Fatalf("not planned for within %v: %s", within, what)
	}
	return time.Since(since)
}

// terms are those in force for all services; the test fails while they differ.
func (f *fleet) terms() map[string]term {
	f.t.Helper()
	out := map[string]term{}
	for _, s := range services() {
		t, ok := f.agreed(s, f.running()...)
		if !ok {
			f.t.Fatalf("the hosts do not agree on %s: %+v", s, t)
		}
		out[s] = t
	}
	return out
}

// steady fails when any host obeys another term at any time; it looks twice a second.
func (f *fleet) steady(during time.Duration, what string) {
	f.t.Helper()
	was := f.terms()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(during); time.Now().Before(end); <-tick.C {
		for _, b := range f.on("", f.running()...) {
			if is, ok := b.inForce(); ok && is != was[b.service] {
				f.t.Fatalf("%s: the term of %s on %s was %+v, is %+v", what, b.service, b.host.name(), was[b.service], is)
			}
		}
	}
}

// watch looks all the time for what must never be: a host that obeys a lower round
// than before, limits outside the bounds or below use. It ends with the test.
func (f *fleet) watch() *fleet {
	stop, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for tick := time.NewTicker(time.Second); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
				f.look()
			}
		}
	}()
	f.t.Cleanup(func() { close(stop); <-over })
	return f
}

func (f *fleet) look() {
	for _, b := range f.boxes {
		cpu, mem := b.kernel.Quota(), b.kernel.Memory()
		if cpu > 0 && (cpu < leastCPU-0.001 || cpu > mostCPU+0.001) || mem > 0 && (mem < leastMemory || mem > mostMemory) {
			f.t.Errorf("%s has %v cores and %d MiB, outside its bounds", b.name, cpu, mem/MiB)
		}
		if use := b.kernel.MemoryUse(); mem > 0 && mem < use {
			f.t.Errorf("%s uses %d KiB of %d KiB", b.name, use>>10, mem>>10)
		}
		if !b.host.daemon().alive() {
			continue
		}
		if is, ok := b.inForce(); ok {
			if is.round < f.rose[b] {
				f.t.Errorf("%s obeys round %d after %d", b.name, is.round, f.rose[b])
			}
			f.rose[b] = max(f.rose[b], is.round)
		}
	}
}

// intact checks, after all daemons have stopped in order, what the containers and
// the histories say of the whole test.
func (f *fleet) intact() {
	f.t.Helper()
	for _, b := range f.boxes {
		b.undisturbed()
		if !b.host.daemon().alive() {
			continue
		}
		seen := map[uint64]bool{}
		for _, c := range b.host.changes(b.name) {
			if seen[c.Seq] && c.Seq != 0 { // quota changes that are not written yet have none
				f.t.Errorf("%s: action %d stands twice in the history", b.name, c.Seq)
			}
			seen[c.Seq] = true
			if c.Result == "open" && time.Since(c.At) > 10*time.Second {
				f.t.Errorf("%s: an action is still open: %+v", b.name, c)
			}
		}
	}
	for _, h := range f.running() {
		h.stop()
	}
	for _, b := range f.boxes {
		limits := b.inspect().HostConfig
		cpu, mem := b.kernel.Quota(), b.kernel.Memory()
		if limits.Cores() < cpu-0.011 || limits.Memory < mem { // what it starts with is no less
			f.t.Errorf("%s starts with %.3f cores and %d bytes, in force are %.3f and %d", b.name, limits.Cores(),
				limits.Memory, cpu, mem)
		}
	}
}

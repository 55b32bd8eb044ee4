package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/test/sim/simnet"
)

// fakeDisk is a disk that is slow, or takes nothing, and remembers what it took.
type fakeDisk struct {
	slow                     atomic.Int64
	noTerms, noMembers, most atomic.Bool // most: two writes at once
	writes                   atomic.Int64
	busy                     atomic.Bool
	last                     atomic.Pointer[Membership]
}

var errNoRoom = errors.New("no space left on device")

func (d *fakeDisk) SaveTerms(map[knowledge.ServiceKey]knowledge.Term) error {
	if d.noTerms.Load() {
		return errNoRoom
	}
	return nil
}

func (d *fakeDisk) SaveMembers(m Membership) error {
	if !d.busy.CompareAndSwap(false, true) {
		d.most.Store(true)
	}
	defer d.busy.Store(false)
	time.Sleep(time.Duration(d.slow.Load()))
	if d.noMembers.Load() {
		return errNoRoom
	}
	d.writes.Add(1)
	d.last.Store(&m)
	return nil
}

// TestRow49SlowDisk: a disk that takes three seconds for a write costs no node its claims.
func TestRow49SlowDisk(t *testing.T) {
	inCluster(t, 4, func(t *testing.T, hosts []*fakeHost) {
		reportAll(hosts)
		reportAll(hosts)
		owner, other := ownerOf(hosts)
		disk := &fakeDisk{}
		disk.slow.Store(int64(3 * time.Second))
		if err := owner.c.do(t.Context(), func() { owner.c.o.Keeper = disk }); err != nil {
			t.Fatal(err)
		}
		before := owner.c.View()
		if before.State != member.Participant || before.Claims == 0 {
			t.Errorf("the owner is %v with %d claims", before.State, before.Claims)
		}
		_ = other.c.Leave()
		for i := range 720 { // ten minutes, and the next list of voters is agreed
			time.Sleep(time.Second)
			if i%10 == 0 {
				owner.c.Report([]plan.Report{owner.report()})
			}
			if v := owner.c.View(); v.State != member.Participant || v.Claims != before.Claims {
				t.Errorf("while its disk writes the owner is %v with %d claims of %d", v.State, v.Claims, before.Claims)
				return
			}
		}
		if disk.writes.Load() == 0 || disk.most.Load() {
			t.Errorf("%d writes, two at once: %v", disk.writes.Load(), disk.most.Load())
		}
	})
}

// lone runs one node, whose cluster is gone, on a disk until test returns, and then after at its end.
func lone(t *testing.T, disk Keeper, log zerolog.Logger, test func(h *fakeHost), after func()) (ended time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		nw := simnet.New(1)
		ctx, stop := context.WithCancel(t.Context())
		gone := member.Seen{ID: knowledge.NodeID(strings.Repeat("9", 32)), Name: "n9", Addr: "10.0.0.9:7946",
			LastSeen: time.Now()}
		h := join(t, nw, 0, func(o *Options) {
			o.Keeper, o.Log, o.Known, o.Member.Join, o.Attest = disk, log, Membership{Seen: []member.Seen{gone}}, nil, false
		})
		var runs sync.WaitGroup
		runs.Go(func() { h.c.Run(ctx) })
		time.Sleep(time.Second)
		test(h)
		began := time.Now()
		stop()
		runs.Wait()
		ended = time.Since(began)
		after()
		_ = h.c.Close()
		nw.Close()
		time.Sleep(time.Minute)
	})
	return ended
}

// TestRow49LastWrite: the end of a node waits for the membership to be written, and not
// for ever.
func TestRow49LastWrite(t *testing.T) {
	for _, slow := range []time.Duration{2 * time.Second, 10 * time.Second} {
		disk := &fakeDisk{}
		disk.slow.Store(int64(slow))
		var inTime int64
		took := lone(t, disk, zerolog.Nop(), func(*fakeHost) {}, func() { inTime = disk.writes.Load() })
		if took > 4*time.Second || inTime == 0 && slow < saveWithin {
			t.Errorf("a write takes %v: the end takes %v, %d written", slow, took, inTime)
		}
	}
}

// TestRow49Unfit: a node whose terms cannot be written participates again when they
// can be, whatever becomes of its membership; that is logged, and not each time.
func TestRow49Unfit(t *testing.T) {
	var logged strings.Builder
	disk := &fakeDisk{}
	disk.noTerms.Store(true)
	disk.noMembers.Store(true)
	lone(t, disk, zerolog.New(zerolog.SyncWriter(&logged)), func(h *fakeHost) {
		wait := func(what string, want member.State) {
			for range 60 {
				if h.c.View().State == want {
					return
				}
				time.Sleep(time.Second)
			}
			t.Errorf("%s: it is still %v", what, h.c.View().State)
		}
		wait("it began", member.Participant)
		h.c.Report([]plan.Report{h.report()})
		wait("no term can be written", member.Waiting)
		time.Sleep(time.Minute)
		wait("none can be written for a minute", member.Waiting)
		disk.noTerms.Store(false)
		wait("terms can be written again", member.Participant)
		h.c.Report([]plan.Report{h.report()})
		time.Sleep(5 * time.Second)
		if h.c.View().Claims != 1 {
			t.Errorf("it has %d claims", h.c.View().Claims)
		}
	}, func() {})
	if n := strings.Count(logged.String(), "cannot save membership; kept in memory only"); n != 1 ||
		!strings.Contains(logged.String(), `"level":"warn"`) {
		t.Errorf("logged %d times:\n%s", n, logged.String())
	}
}

// TestRow49LargeMembership: what a node remembers of the largest cluster fits its document.
func TestRow49LargeMembership(t *testing.T) {
	s, _, err := store.Open(store.Options{Dir: t.TempDir(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	now := time.Now()
	for _, n := range []int{400, 1000, 8192 + 1024} {
		var m Membership
		for i := range n {
			id := knowledge.NodeID(fmt.Sprintf("%032x", i))
			at := now
			if i%10 == 0 {
				at = now.Add(-time.Duration(i) * time.Second)
			}
			m.Seen = append(m.Seen, member.Seen{ID: id, Name: strings.Repeat("<", 64),
				Addr: "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535", LastSeen: at})
			if i < 8192 {
				m.Members = append(m.Members, id)
			}
		}
		m.Seen = worth(m.Seen)
		if err := s.Documents.Put("members", m); err != nil {
			t.Errorf("%d members: %v", n, err)
		}
		b, _ := json.Marshal(m)
		t.Logf("%d members at their longest: %d KiB", n, len(b)>>10)
		for _, seen := range m.Seen {
			if n > 2*seenMost && !seen.LastSeen.Equal(now) {
				t.Fatalf("with %d nodes one that is gone is kept instead of a living one", n)
			}
		}
	}
}

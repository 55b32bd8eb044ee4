package profile

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"pgregory.net/rapid"
)

// drawShared makes a Shared of few hosts and few versions, so that two of them
// often hold the same host in the same version, and sometimes with other contents.
func drawShared(t *rapid.T, name string, hosts int) *Shared {
	s := &Shared{}
	for range rapid.IntRange(0, hosts).Draw(t, name) {
		host := knowledge.NodeID(fmt.Sprint("host", rapid.IntRange(0, hosts-1).Draw(t, "host")))
		p := New()
		p.Epoch, p.Version = rapid.Uint64Range(0, 2).Draw(t, "epoch"), rapid.Uint64Range(0, 2).Draw(t, "version")
		p.AddCPU(epoch, float64(rapid.IntRange(0, 3).Draw(t, "cores")), time.Second, false)
		var seal []byte
		if rapid.Bool().Draw(t, "sealed") {
			seal = []byte{1}
		}
		s.PutCopy(Copy{host, p, seal})
	}
	return s
}

func merged(all ...*Shared) *Shared {
	out := &Shared{}
	for _, s := range all {
		out.Merge(s)
	}
	return out
}

func same(a, b *Shared) bool {
	return slices.EqualFunc(a.parts, b.parts, func(x, y Copy) bool {
		return x.Host == y.Host && bytes.Equal(x.Profile.Marshal(), y.Profile.Marshal()) && bytes.Equal(x.Seal, y.Seal)
	})
}

// The laws of a join, exactly, with fewer hosts than are kept and with more: the
// order of the news does not matter, nor their grouping, nor their number.
func TestSharedMergeLaws(t *testing.T) {
	for _, hosts := range []int{4, 3 * MaxHosts} {
		t.Run(fmt.Sprint(hosts, " hosts"), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				a, b, c := drawShared(t, "a", hosts), drawShared(t, "b", hosts), drawShared(t, "c", hosts)
				if !same(merged(a, b), merged(b, a)) {
					t.Fatal("a and b is not b and a")
				}
				if !same(merged(merged(a, b), c), merged(a, merged(b, c))) {
					t.Fatal("(a and b) and c is not a and (b and c)")
				}
				ab := merged(a, b)
				if !same(merged(ab, ab, b, a), ab) || ab.Merge(a) || ab.Merge(b) {
					t.Fatal("merging again changed something")
				}
				if len(ab.parts) > MaxHosts {
					t.Fatalf("%d hosts", len(ab.parts))
				}
				for _, h := range ab.Hosts() {
					if x, y := a.Of(h), ab.Of(h); x != nil && x.Newer(y) {
						t.Fatalf("%s went back to an older copy", h)
					}
				}
			})
		})
	}
}

func TestSharedIgnoresNobody(t *testing.T) {
	s := &Shared{}
	if s.Put("", New()) || s.Put("a", nil) || len(s.Hosts()) != 0 || s.Of("a") != nil {
		t.Error("something was kept")
	}
	if got := s.Read("a", 0.95, 0.98); got != (Sight{}) {
		t.Errorf("%+v", got)
	}
	s.Put("a", New())
	if got := s.Read("a", 0.95, 0.98); got != (Sight{}) {
		t.Errorf("a host that has observed nothing: %+v", got)
	}
}

// observed is a profile of a steady use over a while.
func observed(cores float64, peak knowledge.Bytes, span time.Duration) *Profile {
	p := New()
	for at := time.Duration(0); at < span; at += time.Minute {
		p.AddCPU(epoch.Add(at), cores, time.Minute, false)
		p.AddMemoryPeak(epoch.Add(at), peak)
	}
	return p
}

func TestRead(t *testing.T) {
	const mib = knowledge.MiB
	type hosts map[knowledge.NodeID]*Profile
	for _, c := range []struct {
		name  string
		hosts hosts
		cpu   float64 // 5 % buckets, rounded up
		need  knowledge.Bytes
	}{
		{"self alone, just begun", hosts{"self": observed(1, 100*mib, time.Minute)}, 1, 100 * mib},
		{"another alone", hosts{"b": observed(2, 200*mib, time.Hour)}, 2, 200 * mib},
		{"self young: by its time", hosts{"self": observed(1, 100*mib, 5*time.Minute),
			"b": observed(4, 400*mib, 9*time.Hour)}, 3, 300 * mib},
		{"self mature: half", hosts{"self": observed(1, 100*mib, 10*time.Minute), "b": observed(3, 300*mib, 99*time.Hour),
			"c": observed(3, 300*mib, 99*time.Hour)}, 2, 200 * mib},
		{"self is the one who knows", hosts{"self": observed(1, 100*mib, 9*time.Hour), "b": observed(3, 300*mib, time.Hour)},
			1.2, 120 * mib},
		{"one that went mad, beside self", hosts{"self": observed(1, 100*mib, 10*time.Minute),
			"b": observed(60, 6000*mib, 99*time.Hour)}, 2, 200 * mib},
		{"one that went mad of three", hosts{"b": observed(1, 100*mib, time.Hour), "c": observed(1, 100*mib, time.Hour),
			"d": observed(60, 6000*mib, time.Hour)}, 2, 200 * mib},
		{"one that knows nothing of memory", hosts{"b": observed(1, 100*mib, time.Hour), "c": observed(1, 100*mib, time.Hour),
			"d": blind(1, time.Hour)}, 1, 100 * mib},
		{"none above a third", hosts{"b": observed(1, 100*mib, 300*time.Hour), "c": observed(4, 400*mib, time.Hour),
			"d": observed(4, 400*mib, time.Hour)}, 3, 300 * mib},
		{"one that went mad of five", hosts{
			"b": observed(1, 100*mib, time.Hour), "c": observed(1, 100*mib, time.Hour), "d": observed(1, 100*mib, time.Hour),
			"e": observed(1, 100*mib, time.Hour), "f": observed(60, 6000*mib, time.Hour),
		}, 1, 100 * mib},
	} {
		s := &Shared{}
		total := time.Duration(0)
		for h, p := range c.hosts {
			s.Put(h, p)
			total += p.ObservedFor()
		}
		got := s.Read("self", 0.95, 0.98)
		if got.CPU < c.cpu*0.999 || got.CPU > c.cpu*1.06 || got.CPUMax < got.CPU*0.999 || got.MemoryNeed < c.need ||
			float64(got.MemoryNeed) > float64(c.need)*1.06 {
			t.Errorf("%s: %+v, want %g cores and %s", c.name, got, c.cpu, c.need)
		}
		if c.name == "none above a third" {
			total = 3 * time.Hour
		}
		if got.ObservedFor != total || got.Hosts != len(c.hosts) {
			t.Errorf("%s: %s of %d hosts, want %s", c.name, got.ObservedFor, got.Hosts, total)
		}
	}
}

// blind is observed of CPU alone.
func blind(cores float64, span time.Duration) *Profile {
	p := New()
	for at := time.Duration(0); at < span; at += time.Minute {
		p.AddCPU(epoch.Add(at), cores, time.Minute, false)
	}
	return p
}

// A node's own copy stays, whatever the names of the others, and which of the others
// stay does not depend on it.
func TestTheOwnCopyStays(t *testing.T) {
	const self = "self"
	rapid.Check(t, func(t *rapid.T) {
		s := drawShared(t, "s", 3*MaxHosts)
		mine, all := &Shared{}, merged(s)
		mine.Keep(self)
		own := observed(1, knowledge.MiB, time.Minute)
		if rapid.Bool().Draw(t, "first") {
			mine.Put(self, own)
			mine.Merge(s)
		} else {
			mine.Merge(s)
			mine.Put(self, own)
		}
		all.Put(self, own)
		if mine.Of(self) != own || mine.Len() > MaxHosts+1 {
			t.Fatalf("%d hosts, of self %v", mine.Len(), mine.Of(self))
		}
		mine.Drop(func(c Copy) bool { return c.Host == self })
		all.Drop(func(c Copy) bool { return c.Host == self })
		if !same(mine, all) {
			t.Fatalf("%v and %v", mine.Hosts(), all.Hosts())
		}
		if s.Len() == MaxHosts {
			if news := merged(s).Put(self, own); news != Admits(s.Hosts(), self) {
				t.Fatalf("kept %t, admitted %t", news, !news)
			}
		}
	})
}

// liar is what one host may say at worst: any profile that can be decoded.
func liar(t *rapid.T) *Profile {
	p := New()
	for range rapid.IntRange(1, 5).Draw(t, "lies") {
		p.AddCPU(epoch, rapid.Float64Range(0, 4096).Draw(t, "lied cores"), time.Minute, false)
		p.AddMemoryPeak(epoch, knowledge.Bytes(rapid.Int64Range(0, int64(knowledge.MaxBytes)).Draw(t, "lied peak")))
	}
	p.observed = time.Duration(rapid.Int64Range(1, int64(maxObserved)).Draw(t, "lied time"))
	p.censored = 0
	if rapid.Bool().Draw(t, "empty") {
		p.cpu, p.day, p.hour = New().cpu, New().day, New().hour
	}
	p, err := Unmarshal(p.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sights are a Sight's figures.
func sights(s Sight) [4]float64 {
	return [...]float64{s.CPU, s.CPUMax, float64(s.MemoryNeed), float64(s.MemoryMax)}
}

// One host moves what others read by no more than Read says, whatever it says.
func TestOneLiarIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &Shared{}
		self, mature := knowledge.NodeID("self"), rapid.Bool().Draw(t, "mature")
		others := rapid.IntRange(2, 7).Draw(t, "others") // the liar included
		low, high := [4]float64{}, [4]float64{}
		honest := time.Duration(0)
		tell := func(host knowledge.NodeID, p *Profile) {
			s.Put(host, p)
			for i, v := range [...]float64{p.CPU(0.95), p.CPUMax(), float64(p.MemoryNeed(0.98)), float64(p.MemoryMax())} {
				if low[i] == 0 || v < low[i] {
					low[i] = v
				}
				high[i] = max(high[i], v)
			}
		}
		draw := func() *Profile {
			cores := rapid.Float64Range(0, 64).Draw(t, "cores")
			return observed(cores, knowledge.Bytes(rapid.Int64Range(0, 1<<36).Draw(t, "peak")),
				time.Duration(rapid.IntRange(10, 100).Draw(t, "minutes"))*time.Minute)
		}
		for i := range others - 1 {
			p := draw()
			tell(knowledge.NodeID(fmt.Sprint("host", i)), p)
			honest += p.ObservedFor()
		}
		own := time.Duration(0)
		if mature {
			p := draw()
			tell(self, p)
			own = p.ObservedFor()
		}
		s.Put(knowledge.NodeID(rapid.SampledFrom([]string{"a", "host00", "z"}).Draw(t, "liar")), liar(t))
		down, up := 1.0, 1.0
		switch {
		case others >= trimFrom:
		case others >= robustFrom:
			down, up = 0.75, 2
		case mature:
			down, up = 2.0/3, 2
		default:
			return
		}
		got := s.Read(self, 0.95, 0.98)
		for i, v := range sights(got) {
			if v < low[i]*down*(1-1e-9)-1 && i > 1 || i <= 1 && v < low[i]*down*(1-1e-9) || v > high[i]*up*(1+1e-9) {
				t.Fatalf("figure %d of %d others is %g, the others say %g to %g", i, others, v, low[i], high[i])
			}
		}
		if others >= robustFrom && got.ObservedFor > own+honest*3/2+1 {
			t.Fatalf("%s of %s and %s", got.ObservedFor, own, honest)
		}
	})
}

// No host holds more than a third of what three or more say, and figures lie
// between those of the hosts.
func TestLevelAndTrim(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := make([]figures, rapid.IntRange(1, 12).Draw(t, "hosts"))
		low, high := math.Inf(1), 0.0
		for i := range all {
			all[i] = figures{weight: rapid.Float64Range(1e-3, 1e9).Draw(t, "weight"),
				cpu: rapid.Float64Range(1e-3, 64).Draw(t, "cpu")}
			low, high = min(low, all[i].cpu), max(high, all[i].cpu)
		}
		level(all)
		var sum, most float64
		for _, f := range all {
			sum, most = sum+f.weight, max(most, f.weight)
		}
		if len(all) >= 3 && most > sum/3*(1+1e-9) {
			t.Fatalf("%g of %g", most, sum)
		}
		if got := mean(all, func(f *figures) float64 { return f.cpu }, 0); got < low*(1-1e-9) || got > high*(1+1e-9) {
			t.Fatalf("%g is not between %g and %g", got, low, high)
		}
	})
}

package profile

import (
	"bytes"
	"cmp"
	"hash/fnv"
	"iter"
	"slices"

	"github.com/effiscale/effiscale/knowledge"
)

// MaxHosts bounds the hosts whose copies a Shared keeps: 16 profiles of at most 8
// KiB. Which of more hosts are kept depends on their ids alone, so that every node
// keeps the same ones, whatever the order of messages.
const MaxHosts = 16

// Shared is what several hosts know of one kind of work: a map from a host to its
// newest profile. Merging keeps, for each host, the copy with the higher (Epoch,
// Version), so that news may come in any order, in any grouping and more than once
// (a state-based CRDT: Shapiro et al., 2011). The zero value is empty. The
// profiles in it belong to it.
type Shared struct {
	parts []Copy           // by host
	keep  knowledge.NodeID // its copy stays, beside the MaxHosts that all keep
}

// Copy is one host's profile and that host's signature over it, which is opaque
// here; nil: there is none.
type Copy struct {
	Host    knowledge.NodeID
	Profile *Profile
	Seal    []byte
}

// Keep makes a host's copy stay whatever the names of the others: the node that
// keeps the Shared needs its own.
func (s *Shared) Keep(self knowledge.NodeID) { s.keep = self }

// Put merges one host's profile in and reports whether that was news. A host
// without a name is ignored.
func (s *Shared) Put(host knowledge.NodeID, p *Profile) bool {
	return s.PutCopy(Copy{Host: host, Profile: p})
}

// PutCopy is Put of a profile with its seal.
func (s *Shared) PutCopy(c Copy) bool {
	if c.Host == "" || c.Profile == nil {
		return false
	}
	i, known := s.find(c.Host)
	if known {
		if !c.supersedes(s.parts[i]) {
			return false
		}
		s.parts[i] = c
		return true
	}
	s.parts = slices.Insert(s.parts, i, c)
	if len(s.parts) <= MaxHosts {
		return true
	}
	out := s.last("")
	if s.parts[out].Host == s.keep {
		if len(s.parts) <= MaxHosts+1 {
			return true
		}
		out = s.last(s.keep)
	}
	s.parts = slices.Delete(s.parts, out, out+1)
	return out != i
}

func (s *Shared) find(host knowledge.NodeID) (int, bool) {
	return slices.BinarySearchFunc(s.parts, host, func(a Copy, h knowledge.NodeID) int { return cmp.Compare(a.Host, h) })
}

// last is the first host to go, but for one.
func (s *Shared) last(but knowledge.NodeID) int {
	out := -1
	for i := range s.parts {
		if h := s.parts[i].Host; h != but && (out < 0 || rank(h).after(rank(s.parts[out].Host))) {
			out = i
		}
	}
	return out
}

// supersedes orders copies of one host's profile totally: two with the same version
// that differ (a host whose state was copied) are ordered by their bytes, and one
// with a seal comes after the same one without.
func (c Copy) supersedes(o Copy) bool {
	if c.Profile.Newer(o.Profile) || o.Profile.Newer(c.Profile) {
		return c.Profile.Newer(o.Profile)
	}
	return cmp.Or(bytes.Compare(c.Profile.Marshal(), o.Profile.Marshal()), bytes.Compare(c.Seal, o.Seal)) > 0
}

// Admits reports whether a node with the copies of hosts would keep a copy of another
// host.
func Admits(hosts []knowledge.NodeID, host knowledge.NodeID) bool {
	before, at := 0, rank(host)
	for _, h := range hosts {
		if at.after(rank(h)) {
			before++
		}
	}
	return before < MaxHosts
}

// place is a host's place in the order in which hosts are kept.
type place struct {
	hash uint64
	host knowledge.NodeID
}

func rank(host knowledge.NodeID) place {
	h := fnv.New64a()
	_, _ = h.Write([]byte(host)) // never fails
	return place{h.Sum64(), host}
}

func (p place) after(o place) bool {
	return p.hash > o.hash || p.hash == o.hash && p.host > o.host
}

// Merge merges all that other holds in and reports whether any of it was news.
// The two share profiles from then on.
func (s *Shared) Merge(other *Shared) (news bool) {
	for _, c := range other.parts {
		if s.PutCopy(c) {
			news = true
		}
	}
	return news
}

// Replace puts a host's profile in the place of the one that is there, newer or
// not: for the node's own.
func (s *Shared) Replace(host knowledge.NodeID, p *Profile) {
	if i, known := s.find(host); known {
		s.parts[i] = Copy{Host: host, Profile: p}
		return
	}
	s.Put(host, p)
}

// Drop removes the copies that f selects and returns how many they were.
func (s *Shared) Drop(f func(Copy) bool) int {
	before := len(s.parts)
	s.parts = slices.DeleteFunc(s.parts, f)
	return before - len(s.parts)
}

// Of is the profile of one host; nil: none is known.
func (s *Shared) Of(host knowledge.NodeID) *Profile { return s.CopyOf(host).Profile }

// CopyOf is the copy of one host; without a profile: none is known.
func (s *Shared) CopyOf(host knowledge.NodeID) Copy {
	if i, known := s.find(host); known {
		return s.parts[i]
	}
	return Copy{}
}

// Len is how many hosts have a copy.
func (s *Shared) Len() int { return len(s.parts) }

// All are the copies, by host.
func (s *Shared) All() iter.Seq[Copy] { return slices.Values(s.parts) }

// Hosts are the hosts with a profile, in order.
func (s *Shared) Hosts() []knowledge.NodeID {
	out := make([]knowledge.NodeID, 0, len(s.parts))
	for _, p := range s.parts {
		out = append(out, p.Host)
	}
	return out
}

package profile

import (
	"bytes"
	"cmp"
	"hash/fnv"
	"slices"

	"github.com/effiscale/effiscale/knowledge"
)

// MaxHosts bounds the hosts whose copies a Shared keeps: 16 profiles of at most
// 8 KiB. Which of more hosts are kept depends on their names alone, so that every
// node keeps the same ones, whatever the order of the news.
const MaxHosts = 16

// Shared is what several hosts know of one kind of work: a map from a host to its
// newest profile. Merging keeps, for each host, the copy with the higher (Epoch,
// Version), so that news may come in any order, in any grouping and more than once
// (a state-based CRDT: Shapiro et al., 2011). The zero value is empty. The
// profiles in it belong to it.
type Shared struct {
	parts []part // by host
}

type part struct {
	host    knowledge.NodeID
	profile *Profile
}

// Put merges one host's profile in and reports whether that was news. A host
// without a name is ignored.
func (s *Shared) Put(host knowledge.NodeID, p *Profile) bool {
	if host == "" || p == nil {
		return false
	}
	i, known := slices.BinarySearchFunc(s.parts, host, func(a part, h knowledge.NodeID) int { return cmp.Compare(a.host, h) })
	if known {
		if !supersedes(p, s.parts[i].profile) {
			return false
		}
		s.parts[i].profile = p
		return true
	}
	s.parts = slices.Insert(s.parts, i, part{host, p})
	if len(s.parts) <= MaxHosts {
		return true
	}
	out := 0
	for j := range s.parts {
		if rank(s.parts[j].host).after(rank(s.parts[out].host)) {
			out = j
		}
	}
	s.parts = slices.Delete(s.parts, out, out+1)
	return out != i
}

// supersedes orders copies of one host's profile totally: two that claim the same
// version and differ (a host whose state was copied) are ordered by their bytes.
func supersedes(a, b *Profile) bool {
	if a.Newer(b) || b.Newer(a) {
		return a.Newer(b)
	}
	return bytes.Compare(a.Marshal(), b.Marshal()) > 0
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
	for _, p := range other.parts {
		if s.Put(p.host, p.profile) {
			news = true
		}
	}
	return news
}

// Of is the profile of one host; nil: none is known.
func (s *Shared) Of(host knowledge.NodeID) *Profile {
	for _, p := range s.parts {
		if p.host == host {
			return p.profile
		}
	}
	return nil
}

// Hosts are the hosts with a profile, in order.
func (s *Shared) Hosts() []knowledge.NodeID {
	out := make([]knowledge.NodeID, 0, len(s.parts))
	for _, p := range s.parts {
		out = append(out, p.host)
	}
	return out
}

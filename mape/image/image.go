// Package image keeps what this host and others know of images: the work of
// containers that have an image and a command in common. A new container gets its
// first limits from it, before its service has a history of its own.
//
// A Set belongs to one goroutine, that of the loop.
package image

import (
	"slices"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/profile"
	"github.com/effiscale/effiscale/mape/plan"
)

const (
	// maxImages bounds the images that are kept: at 3.5 KB 3.5 MB. The containers of
	// further ones are known by their services alone.
	maxImages = 1024
	// maxUnused bounds those of them that no container uses.
	maxUnused = 256
	// maxCopies bounds the copies of all hosts: at 3.5 KB 14 MB. Images that no
	// container uses may fill 3/4 of it, and are dropped from 7/8 on, which leaves
	// room for those in use.
	maxCopies       = 4096
	maxUnusedCopies = maxCopies * 3 / 4
	crowdedCopies   = maxCopies * 7 / 8
	maxBatch        = 512 // copies in one batch: of 1.2 KB 0.6 MB
	copyTTL         = 30 * 24 * time.Hour
	maxClockAhead   = 24 * time.Hour
	// An image is written when it was observed an eighth longer than on the disk, or
	// after writeEvery: often while it is new, seldom later, because it is needed for
	// containers that do not exist yet. The copy for other hosts is renewed in the
	// same way, but after publishEvery: 100 images and 15 hosts are then 500 bytes a
	// second.
	writeEvery   = 5 * time.Minute
	publishEvery = time.Hour
	growthPart   = 8
	// publishAfter is the least age of an own copy before others get it. Until then
	// this host asks them for what it knew before its disk was lost: its new copy
	// would replace that.
	publishAfter = 2 * time.Minute
)

// Sign makes this host's signature over its copy of an image's profile.
type Sign func(key knowledge.ImageKey, epoch, version uint64, packed []byte) []byte

// Set is all images that this host knows.
type Set struct {
	self   knowledge.NodeID
	sign   Sign
	images map[knowledge.ImageKey]*Image
}

// NewSet makes an empty set. Without self nothing is kept; without sign the copies
// have no signature.
func NewSet(self knowledge.NodeID, sign Sign) *Set {
	return &Set{self: self, sign: sign, images: map[knowledge.ImageKey]*Image{}}
}

// Image is what hosts know of one image.
type Image struct {
	shared     profile.Shared
	self       knowledge.NodeID
	own        *profile.Profile // this host's copy
	published  publication      // the own copy that others get
	observed   bool             // own is in shared: an empty one takes no place there
	containers int              // of this host, that use it
	lastUsed   time.Time
	dirty      bool
	writtenAt  time.Time
	written    time.Duration             // the observation that is on the disk
	unsaved    map[knowledge.NodeID]bool // hosts whose copies are not on the disk
}

// Restore takes over what the store has.
func (s *Set) Restore(now time.Time, stored map[knowledge.ImageKey]*profile.Shared) {
	for key, shared := range stored {
		if len(s.images) < maxImages && s.self != "" {
			s.images[key] = s.newImage(now, shared)
		}
	}
}

// Use finds or makes the image of that name for a container that came; nil: there
// are too many, or it has no name.
func (s *Set) Use(now time.Time, key knowledge.ImageKey) *Image {
	if key == "" || s.self == "" {
		return nil
	}
	i := s.images[key]
	if i == nil {
		if len(s.images) >= maxImages {
			return nil
		}
		i = s.newImage(now, nil)
		s.images[key] = i
	}
	i.containers++
	return i
}

// Release is the end of a container that used the image.
func (i *Image) Release(now time.Time) {
	i.containers--
	i.lastUsed = now
}

func (s *Set) newImage(now time.Time, stored *profile.Shared) *Image {
	i := &Image{lastUsed: now, self: s.self, observed: true, unsaved: map[knowledge.NodeID]bool{}}
	if stored != nil {
		i.shared = *stored
	}
	i.shared.Keep(s.self)
	if i.own = i.shared.Of(s.self); i.own == nil {
		i.own = profile.New()
		i.own.Epoch = uint64(max(now.Unix(), 0))
		i.observed = false
	}
	if i.written = i.own.ObservedFor(); i.own.Version > 0 {
		i.published = publish(now, i.own, i.own.Marshal())
	}
	return i
}

// Forget drops copies that their hosts did not renew within copyTTL, and the images
// that are unused for longest. The store has them still.
func (s *Set) Forget(now time.Time) {
	var unused []knowledge.ImageKey
	copies := 0
	for key, i := range s.images {
		i.shared.Drop(func(c profile.Copy) bool { return c.Host != s.self && now.Sub(c.Profile.Last()) > copyTTL })
		copies += i.shared.Len()
		if i.containers == 0 && !i.dirty && len(i.unsaved) == 0 {
			unused = append(unused, key)
		}
	}
	if len(unused) <= maxUnused && copies <= crowdedCopies {
		return
	}
	slices.SortFunc(unused, s.byLastUse)
	for n, key := range unused {
		if len(unused)-n <= maxUnused && copies <= crowdedCopies {
			return
		}
		copies -= s.images[key].shared.Len()
		delete(s.images, key)
	}
}

// byLastUse orders images by when a container used them last.
func (s *Set) byLastUse(a, b knowledge.ImageKey) int {
	if c := s.images[a].lastUsed.Compare(s.images[b].lastUsed); c != 0 {
		return c
	}
	return strings.Compare(string(a), string(b))
}

// Learn adds an observation of one of this host's containers.
func (i *Image) Learn(f func(*profile.Profile)) {
	f(i.own)
	i.dirty = true
	if !i.observed {
		i.observed = true
		i.shared.Put(i.self, i.own)
	}
}

// Facts are what a planner needs to know of the image of a container with that policy.
func (i *Image) Facts(p *knowledge.Policy) plan.Image {
	if i == nil {
		return plan.Image{}
	}
	s := i.shared.Read(i.self, p.Percentile(), p.MemoryPercentile)
	return plan.Image{
		ObservedFor: s.ObservedFor, CPU: knowledge.FromCores(s.CPU), CPUMax: knowledge.FromCores(s.CPUMax),
		MemoryNeed: s.MemoryNeed, MemoryPeak: s.MemoryMax,
	}
}

// Pack takes what is to be written: the images that changed and were not written of
// late, or with all every changed one, and the copies that came from other hosts.
func (s *Set) Pack(now time.Time, all bool) map[CopyKey]StoredCopy {
	out := map[CopyKey]StoredCopy{}
	for key, i := range s.images {
		for host := range i.unsaved {
			if len(out) >= maxBatch && !all {
				break
			}
			if c := i.shared.CopyOf(host); c.Profile != nil {
				out[CopyKey{key, host}] = StoredCopy{c.Profile.Marshal(), c.Seal}
			}
			delete(i.unsaved, host)
		}
		observed := i.own.ObservedFor()
		if !i.dirty || !all && now.Sub(i.writtenAt) < writeEvery && observed-i.written < i.written/growthPart {
			continue
		}
		i.dirty, i.writtenAt, i.written = false, now, observed
		i.own.Version++
		p := publish(now, i.own, i.own.Marshal())
		p.seal = s.seal(key, &p)
		out[CopyKey{key, s.self}] = StoredCopy{p.packed, p.seal}
		age := now.Sub(time.Unix(int64(i.own.Epoch), 0))
		if i.published.outdated(&p) && (age >= publishAfter || age < 0) { // below 0: the clock was set back
			i.published = p
		}
	}
	return out
}

// Unsaved marks what a failed commit held, so that the next one has it as it is then.
func (s *Set) Unsaved(failed map[CopyKey]StoredCopy) {
	for at := range failed {
		switch i := s.images[at.Image]; {
		case i == nil:
		case at.Host == s.self:
			i.dirty, i.writtenAt = true, time.Time{}
		default:
			i.unsaved[at.Host] = true
		}
	}
}

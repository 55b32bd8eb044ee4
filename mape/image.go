package mape

import (
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/profile"
	"github.com/effiscale/effiscale/mape/plan"
)

const (
	// imagesMost bounds the images that are learned about: at 3.5 KB 3.5 MB. The
	// containers of further ones are known by their services alone.
	imagesMost = 1024
	// imagesIdle bounds those of them that no container has.
	imagesIdle = 256
	// copiesMost bounds the copies of all hosts: at 3.5 KB 14 MB. Images that no
	// container has may fill 3/4 of it and lose theirs from 7/8 on, so that there is
	// room for those in use.
	copiesMost     = 4096
	copiesIdle     = copiesMost * 3 / 4
	copiesCrowded  = copiesMost * 7 / 8
	copiesAtOnce   = 512 // written in one batch: of 1.2 KB 0.6 MB
	copyLife       = 30 * 24 * time.Hour
	copyFromFuture = 24 * time.Hour
	// An image is written when it is known for an eighth longer than on the disk, or
	// after imagesApart: often while it is new, seldom later. What it teaches is for
	// containers that do not exist yet. Other hosts are told in the same way, but
	// after offersApart: 100 images and 15 hosts are then 500 bytes a second.
	imagesApart = 5 * time.Minute
	offersApart = time.Hour
	imagesFresh = 8
	// offerAfter is how old what this host knows is before others are told: until
	// then it asks them for what it knew before its disk was lost, which its new copy
	// would take the place of.
	offerAfter = 2 * time.Minute
)

// image is the work of containers that have an image and a command in common, and
// what hosts know of it.
type image struct {
	shared   profile.Shared
	self     knowledge.NodeID
	own      *profile.Profile // this host's part of shared
	known    bool             // … is in it: one that knows nothing takes no place there
	units    int
	dirty    bool
	wroteAt  time.Time
	wrote    time.Duration // the observation that the disk has
	offer    offer
	unsaved  map[knowledge.NodeID]bool // hosts whose copies the disk has not
	lastSeen time.Time
}

// image finds or makes the image of that name; nil: there are too many, or it has
// no name.
func (l *Loop) image(now time.Time, key knowledge.ImageKey) *image {
	if key == "" || l.o.Node == "" {
		return nil
	}
	if i := l.images[key]; i != nil {
		return i
	}
	if len(l.images) >= imagesMost {
		return nil
	}
	i := newImage(now, l.o.Node, nil)
	l.images[key] = i
	return i
}

// newImage takes over what earlier lives and other hosts left; nil: nothing.
func newImage(now time.Time, self knowledge.NodeID, left *profile.Shared) *image {
	i := &image{lastSeen: now, self: self, known: true, unsaved: map[knowledge.NodeID]bool{}}
	if left != nil {
		i.shared = *left
	}
	i.shared.Keep(self)
	if i.own = i.shared.Of(self); i.own == nil {
		i.own = profile.New()
		i.own.Epoch = uint64(max(now.Unix(), 0))
		i.known = false
	}
	if i.wrote = i.own.ObservedFor(); i.own.Version > 0 {
		i.offer = offerOf(now, i.own, i.own.Marshal())
	}
	return i
}

// forgetImages drops copies that their hosts did not renew for long, and the images
// that were gone longest. The disk has them still.
func (l *Loop) forgetImages() {
	now := l.o.Now()
	var idle []knowledge.ImageKey
	copies := 0
	for key, i := range l.images {
		i.shared.Drop(func(c profile.Copy) bool { return c.Host != l.o.Node && now.Sub(c.Profile.Last()) > copyLife })
		copies += i.shared.Len()
		if i.units == 0 && !i.dirty && len(i.unsaved) == 0 {
			idle = append(idle, key)
		}
	}
	if len(idle) <= imagesIdle && copies <= copiesCrowded {
		return
	}
	knowledge.SortFunc(idle, l.gone)
	for n, key := range idle {
		if len(idle)-n <= imagesIdle && copies <= copiesCrowded {
			return
		}
		copies -= l.images[key].shared.Len()
		delete(l.images, key)
	}
}

// gone orders images by when a container had them last.
func (l *Loop) gone(a, b knowledge.ImageKey) int {
	if c := l.images[a].lastSeen.Compare(l.images[b].lastSeen); c != 0 {
		return c
	}
	return strings.Compare(string(a), string(b))
}

// teach calls f with each profile that this container adds to: its service's and
// its image's.
func (c *container) learn(f func(*profile.Profile)) {
	f(c.service.profile)
	c.service.dirty = true
	if c.image != nil {
		c.image.learn(f)
	}
}

func (i *image) learn(f func(*profile.Profile)) {
	f(i.own)
	i.dirty = true
	if !i.known {
		i.known = true
		i.shared.Put(i.self, i.own)
	}
}

// sight is what the planner is told of a container's image.
func (l *Loop) sight(c *container) plan.Image {
	if c.image == nil {
		return plan.Image{}
	}
	s := c.image.shared.Read(l.o.Node, c.Policy.Percentile(), c.Policy.MemoryPercentile)
	return plan.Image{
		ObservedFor: s.ObservedFor, CPU: knowledge.FromCores(s.CPU), CPUMax: knowledge.FromCores(s.CPUMax),
		MemoryNeed: s.MemoryNeed, MemoryPeak: s.MemoryMax,
	}
}

// packImages takes the images that changed and were not written of late, and what
// came from other hosts.
func (l *Loop) packImages(now time.Time, all bool) map[ImageCopy]SealedCopy {
	out := map[ImageCopy]SealedCopy{}
	for key, i := range l.images {
		for host := range i.unsaved {
			if len(out) >= copiesAtOnce && !all {
				break
			}
			if c := i.shared.CopyOf(host); c.Profile != nil {
				out[ImageCopy{key, host}] = SealedCopy{c.Profile.Marshal(), c.Seal}
			}
			delete(i.unsaved, host)
		}
		observed := i.own.ObservedFor()
		if !i.dirty || !all && now.Sub(i.wroteAt) < imagesApart && observed-i.wrote < i.wrote/imagesFresh {
			continue
		}
		i.dirty, i.wroteAt, i.wrote = false, now, observed
		i.own.Version++
		o := offerOf(now, i.own, i.own.Marshal())
		o.seal = l.seal(key, &o)
		out[ImageCopy{key, l.o.Node}] = SealedCopy{o.packed, o.seal}
		begun := now.Sub(time.Unix(int64(i.own.Epoch), 0))
		if i.offer.due(&o) && (begun >= offerAfter || begun < 0) { // below 0: the clock was set back
			i.offer = o
		}
	}
	return out
}

// unsavedImages marks what a failed commit held, so that the next one has it,
// whatever it is then.
func (l *Loop) unsavedImages(lost map[ImageCopy]SealedCopy) {
	for at := range lost {
		switch i := l.images[at.Image]; {
		case i == nil:
		case at.Host == l.o.Node:
			i.dirty, i.wroteAt = true, time.Time{}
		default:
			i.unsaved[at.Host] = true
		}
	}
}

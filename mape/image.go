package mape

import (
	"slices"
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
	// An image is written when it is known for an eighth longer than on the disk, or
	// after imagesApart: often while it is new, seldom later. What it teaches is for
	// containers that do not exist yet.
	imagesApart = 5 * time.Minute
	imagesFresh = 8
)

// image is the work of containers that have an image and a command in common, and
// what hosts know of it.
type image struct {
	shared   profile.Shared
	own      *profile.Profile // this host's part of shared
	units    int
	dirty    bool
	wroteAt  time.Time
	wrote    time.Duration // the observation that the disk has
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
	i := &image{lastSeen: now}
	if left != nil {
		i.shared = *left
	}
	if i.own = i.shared.Of(self); i.own == nil {
		i.own = profile.New()
		i.own.Epoch = uint64(max(now.Unix(), 0))
		i.shared.Put(self, i.own)
	}
	i.wrote = i.own.ObservedFor()
	return i
}

// forgetImages drops the images that were gone longest. The disk has them still.
func (l *Loop) forgetImages() {
	var idle []knowledge.ImageKey
	for key, i := range l.images {
		if i.units == 0 && !i.dirty {
			idle = append(idle, key)
		}
	}
	if len(idle) <= imagesIdle {
		return
	}
	slices.SortFunc(idle, func(a, b knowledge.ImageKey) int { return l.images[a].lastSeen.Compare(l.images[b].lastSeen) })
	for _, key := range idle[:len(idle)-imagesIdle] {
		delete(l.images, key)
	}
}

// teach calls f with each profile that this container adds to: its service's and
// its image's.
func (u *unit) teach(f func(*profile.Profile)) {
	f(u.service.profile)
	u.service.dirty = true
	if u.image != nil {
		f(u.image.own)
		u.image.dirty = true
	}
}

// sight is what the planner is told of a container's image.
func (l *Loop) sight(u *unit) plan.Image {
	if u.image == nil {
		return plan.Image{}
	}
	s := u.image.shared.Read(l.o.Node, u.Policy.Percentile(), u.Policy.MemoryPercentile)
	return plan.Image{
		ObservedFor: s.ObservedFor, CPU: knowledge.FromCores(s.CPU), CPUMax: knowledge.FromCores(s.CPUMax),
		MemoryNeed: s.MemoryNeed, MemoryPeak: s.MemoryMax,
	}
}

// packImages takes the images that changed and were not written of late.
func (l *Loop) packImages(now time.Time, all bool) map[knowledge.ImageKey][]byte {
	out := map[knowledge.ImageKey][]byte{}
	for key, i := range l.images {
		observed := i.own.ObservedFor()
		if !i.dirty || !all && now.Sub(i.wroteAt) < imagesApart && observed-i.wrote < i.wrote/imagesFresh {
			continue
		}
		i.dirty, i.wroteAt, i.wrote = false, now, observed
		i.own.Version++
		out[key] = i.own.Marshal()
	}
	return out
}

package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	bolt "go.etcd.io/bbolt"
)

// A file of a version that had no images, seals and models is taken over with all that
// it holds, and gets them.
func TestAFileOfAnEarlierVersion(t *testing.T) {
	c := &clock{epoch}
	o := options(t, c)
	s, _ := mustOpen(t, o)
	if err := errors.Join(s.SetIdentity(Identity{Node: "n1"}),
		s.Learned.Commit(Batch{Profiles: map[knowledge.ServiceKey][]byte{"web": {1}}})); err != nil {
		t.Fatal(err)
	}
	err := s.file.db.Update(func(tx *bolt.Tx) error {
		return errors.Join(tx.DeleteBucket([]byte(bucketImages)), tx.DeleteBucket([]byte(bucketModels)),
			tx.DeleteBucket([]byte(bucketSeals)))
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	s, opened := mustOpen(t, o)
	if opened.Fresh || opened.SetAside != "" || opened.Why != "" {
		t.Errorf("%+v", opened)
	}
	at := ImageCopy{"image", "n1"}
	if err := s.Learned.Commit(Batch{Images: map[ImageCopy][]byte{at: {2}},
		Models: map[knowledge.ServiceKey][]byte{"web": {3}}}); err != nil {
		t.Fatal(err)
	}
	profiles, err1 := s.Learned.Profiles()
	images, err2 := s.Learned.Images()
	models, err3 := s.Learned.Models()
	if err := errors.Join(err1, err2, err3); err != nil || len(profiles) != 1 || len(images) != 1 || images[at][0] != 2 ||
		models["web"][0] != 3 {
		t.Errorf("%v, %v, %v, %v", profiles, images, models, err)
	}
}

// Copies of images and models are bounded: what is not a name or too large is
// refused alone, what was not written for 30 days goes, and so does the oldest of
// too many.
func TestImagesAndModelsAreBounded(t *testing.T) {
	c := &clock{epoch}
	o := options(t, c)
	o.MaxSize = 1 << 20 // 64 copies of images, one model
	s, _ := mustOpen(t, o)
	err := s.Learned.Commit(Batch{
		Images: map[ImageCopy][]byte{{"", "n1"}: {1}, {"old", ""}: {1}, {"large", "n1"}: make([]byte, maxProfile+1),
			{"old", "n1"}: {1}},
		Models: map[knowledge.ServiceKey][]byte{"large": make([]byte, maxModel+1), "old": {1}},
	})
	if !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	count := func() (images, models []string) {
		all, err1 := s.Learned.Images()
		fitted, err2 := s.Learned.Models()
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		for k := range all {
			images = append(images, string(k.Image))
		}
		for k := range maps.Keys(fitted) {
			models = append(models, string(k))
		}
		slices.Sort(images)
		return images, models
	}
	if i, m := count(); len(i) != 1 || len(m) != 1 {
		t.Errorf("%v, %v", i, m)
	}
	for i := range 72 {
		c.now = c.now.Add(time.Second)
		if err := s.Learned.Commit(Batch{
			Images: map[ImageCopy][]byte{{knowledge.ImageKey(fmt.Sprintf("image%02d", i)), "n1"}: {1}},
			Seals:  map[ImageCopy][]byte{{knowledge.ImageKey(fmt.Sprintf("image%02d", i)), "n1"}: {2}},
			Models: map[knowledge.ServiceKey][]byte{knowledge.ServiceKey(fmt.Sprint("web", i)): {1}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Prune(c.now); err != nil {
		t.Fatal(err)
	}
	if i, m := count(); len(i) != 64 || i[0] != "image08" || len(m) != 1 {
		t.Errorf("%d from %s, %d", len(i), i[0], len(m))
	}
	if seals, err := s.Learned.Seals(); err != nil || len(seals) != 64 {
		t.Errorf("%d seals, %v", len(seals), err)
	}
	c.now = c.now.Add(31 * 24 * time.Hour)
	if err := s.Prune(c.now); err != nil {
		t.Fatal(err)
	}
	if i, m := count(); len(i) != 0 || len(m) != 0 {
		t.Errorf("after a month there are %v and %v", i, m)
	}
	if seals, err := s.Learned.Seals(); err != nil || len(seals) != 0 {
		t.Errorf("%d seals, %v", len(seals), err)
	}
}

// A copy comes back with its seal, and never with that of another copy: one that is
// written without a seal, or with one out of bounds, has none.
func TestSealsComeBackWithTheirCopies(t *testing.T) {
	o := options(t, &clock{epoch})
	s, _ := mustOpen(t, o)
	a, b := ImageCopy{"image", "n1"}, ImageCopy{"image", "n2"}
	commit := func(images, seals map[ImageCopy][]byte, want error) {
		t.Helper()
		if err := s.Learned.Commit(Batch{Images: images, Seals: seals}); !errors.Is(err, want) {
			t.Error(err)
		}
	}
	look := func(images, seals string) {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s, _ = mustOpen(t, o)
		i, err1 := s.Learned.Images()
		l, err2 := s.Learned.Seals()
		if got := fmt.Sprint(i[a], i[b]); got != images || err1 != nil {
			t.Errorf("images %s, %v", got, err1)
		}
		if got := fmt.Sprint(l[a], l[b]); got != seals || err2 != nil || len(l) > 2 {
			t.Errorf("seals %s, %v", got, err2)
		}
	}
	commit(map[ImageCopy][]byte{a: {1}, b: {2}}, map[ImageCopy][]byte{a: {3}, b: {4}, {"other", "n1"}: {5}}, nil)
	look("[1] [2]", "[3] [4]")
	commit(map[ImageCopy][]byte{a: {6}}, nil, nil)
	look("[6] [2]", "[] [4]")
	commit(map[ImageCopy][]byte{b: {7}}, map[ImageCopy][]byte{b: make([]byte, maxSeal+1)}, ErrInvalid)
	look("[6] [7]", "[] []")
	commit(map[ImageCopy][]byte{b: make([]byte, maxProfile+1)}, map[ImageCopy][]byte{b: {8}}, ErrInvalid)
	look("[6] [7]", "[] []")
}

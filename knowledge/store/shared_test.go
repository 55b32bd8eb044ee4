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

// A file of a version that had no images and no models is taken over with all that
// it holds, and gets them.
func TestAFileOfAnEarlierVersion(t *testing.T) {
	c := &clock{epoch}
	o := options(t, c)
	s, _ := mustOpen(t, o)
	if err := errors.Join(s.SetIdentity(Identity{Node: "n1"}), s.Commit(Batch{Profiles: map[knowledge.ServiceKey][]byte{"web": {1}}})); err != nil {
		t.Fatal(err)
	}
	err := s.db.Update(func(tx *bolt.Tx) error {
		return errors.Join(tx.DeleteBucket([]byte(bucketImages)), tx.DeleteBucket([]byte(bucketModels)))
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	s, opened := mustOpen(t, o)
	if opened.Fresh || opened.SetAside != "" || opened.Why != "" {
		t.Errorf("%+v", opened)
	}
	at := ImageCopy{"image", "n1"}
	if err := s.Commit(Batch{Images: map[ImageCopy][]byte{at: {2}}, Models: map[knowledge.ServiceKey][]byte{"web": {3}}}); err != nil {
		t.Fatal(err)
	}
	profiles, err1 := s.Profiles()
	images, err2 := s.Images()
	models, err3 := s.Models()
	if err := errors.Join(err1, err2, err3); err != nil || len(profiles) != 1 || len(images) != 1 || images[at][0] != 2 || models["web"][0] != 3 {
		t.Errorf("%v, %v, %v, %v", profiles, images, models, err)
	}
}

// Copies of images and models are bounded: what is not a name or too large is
// refused alone, what was not written for 30 days goes, and so does the oldest of
// too many.
func TestImagesAndModelsAreBounded(t *testing.T) {
	c := &clock{epoch}
	o := options(t, c)
	o.MaxSize = 1 << 20 // 32 copies of images, one model
	s, _ := mustOpen(t, o)
	err := s.Commit(Batch{
		Images: map[ImageCopy][]byte{{"", "n1"}: {1}, {"old", ""}: {1}, {"large", "n1"}: make([]byte, maxProfile+1), {"old", "n1"}: {1}},
		Models: map[knowledge.ServiceKey][]byte{"large": make([]byte, maxModel+1), "old": {1}},
	})
	if !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	count := func() (images, models []string) {
		all, err1 := s.Images()
		fitted, err2 := s.Models()
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
	for i := range 40 {
		c.now = c.now.Add(time.Second)
		if err := s.Commit(Batch{
			Images: map[ImageCopy][]byte{{knowledge.ImageKey(fmt.Sprintf("image%02d", i)), "n1"}: {1}},
			Models: map[knowledge.ServiceKey][]byte{knowledge.ServiceKey(fmt.Sprint("web", i)): {1}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Prune(c.now); err != nil {
		t.Fatal(err)
	}
	if i, m := count(); len(i) != 32 || i[0] != "image08" || len(m) != 1 {
		t.Errorf("%d from %s, %d", len(i), i[0], len(m))
	}
	c.now = c.now.Add(31 * 24 * time.Hour)
	if err := s.Prune(c.now); err != nil {
		t.Fatal(err)
	}
	if i, m := count(); len(i) != 0 || len(m) != 0 {
		t.Errorf("after a month there are %v and %v", i, m)
	}
}

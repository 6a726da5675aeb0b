package blob_test

import (
	"errors"
	"testing"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/storage"
	"github.com/kernelflow/kernelflow/shared/storage/blob"
	"github.com/kernelflow/kernelflow/shared/storage/storagetest"
)

func TestConformanceOfAFolder(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Storage {
		s, err := blob.Open("file://"+t.TempDir()+"/storage", "http://example.org/storage/")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	})
}

func TestWhatIsNotSupportedIsSaid(t *testing.T) {
	for _, tc := range [][2]string{{"gs://bucket", "http://x/"}, {"file://", "http://x/"}, {"file:///tmp", "not absolute"}, {":", "http://x/"}} {
		if _, err := blob.Open(tc[0], tc[1]); !errors.Is(err, errs.Invalid) {
			t.Errorf("Open(%s, %s): %v", tc[0], tc[1], err)
		}
	}
}

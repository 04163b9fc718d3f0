"""Photos are decoded in processes of their own, which may do nothing else: a photo is somebody else's input to a large C library."""

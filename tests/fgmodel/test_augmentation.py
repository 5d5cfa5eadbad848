import torch

from fgmodel.augmentation import augment, choose, crop, flip

BOX = torch.tensor([[[10.0, 4.0, 20.0, 12.0]]])      # x1 y1 x2 y2


def marked(box, side=32):
    """Black images, white inside their one box."""
    images = torch.zeros(len(box), 3, side, side)
    for image, (x1, y1, x2, y2) in zip(images, box[:, 0].int().tolist(), strict=True):
        image[:, y1:y2, x1:x2] = 1.0
    return images


def inside(image, box):
    x1, y1, x2, y2 = box.int().tolist()
    return image[:, y1:y2, x1:x2]


def test_a_flipped_images_box_holds_what_it_held():
    images, boxes = flip(marked(BOX), BOX, torch.tensor([True]))
    assert boxes.tolist() == [[[12.0, 4.0, 22.0, 12.0]]]        # 32 - 20, 32 - 10
    assert (inside(images[0], boxes[0, 0]) == 1).all()
    assert images.sum() == marked(BOX).sum()


def test_only_the_images_drawn_are_flipped():
    two = BOX.repeat(2, 1, 1)
    _, boxes = flip(marked(two), two, torch.tensor([False, True]))
    assert boxes[0].tolist() == BOX[0].tolist()
    assert boxes[1].tolist() != BOX[0].tolist()


def test_a_crop_keeps_seven_eighths_and_moves_its_box_along():
    images, boxes = crop(marked(BOX), BOX, torch.tensor([[0.99, 0.5]]))     # corner: x 4 of 0..4, y 2
    assert images.shape == (1, 3, 28, 28)
    assert boxes.tolist() == [[[6.0, 2.0, 16.0, 10.0]]]
    assert (inside(images[0], boxes[0, 0]) == 1).all()
    assert images.sum() == marked(BOX).sum()


def test_a_crop_reaches_both_ends_of_the_frame():
    ramp = torch.arange(32.0).expand(1, 3, 32, 32)
    left, _ = crop(ramp, BOX, torch.zeros(1, 2))
    right, _ = crop(ramp, BOX, torch.full((1, 2), 0.999))
    assert (left.min(), right.max()) == (0, 31)


def test_a_box_less_than_half_visible_is_dropped_and_another_clipped():
    boxes = torch.tensor([[[0.0, 0.0, 7.0, 10.0], [0.0, 0.0, 10.0, 10.0]]])
    _, seen = crop(torch.zeros(1, 3, 32, 32), boxes, torch.tensor([[0.99, 0.0]]))   # 4 columns go: 3/7 and 6/10 remain
    assert seen.tolist() == [[[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 6.0, 10.0]]]


def test_a_patch_is_chosen_uniformly_among_the_visible():
    boxes = torch.zeros(1000, 4, 4)
    boxes[:, 1], boxes[:, 3] = torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([1.0, 1.0, 4.0, 4.0])
    chosen = choose(boxes, torch.arange(1000) / 1000, side=28)[:, 0]
    assert (chosen == boxes[:, 1]).all(dim=1).sum() == 500
    assert (chosen == boxes[:, 3]).all(dim=1).sum() == 500


def test_the_whole_crop_is_the_patch_where_none_is_visible():
    assert choose(torch.zeros(1, 3, 4), torch.tensor([0.7]), side=28).tolist() == [[[0, 0, 28, 28]]]


def test_without_augmentation_the_image_is_itself_and_each_box_comes_up_equally():
    images, boxes = torch.rand(8, 3, 32, 32), torch.arange(1.0, 5.0).repeat(8, 4, 1) * torch.arange(1, 5)[:, None]
    draws = torch.rand(8, 4)
    draws[:, 0] = torch.arange(8) / 8
    same, chosen = augment("none", images, boxes, draws)
    assert torch.equal(same, images)
    assert chosen[:, 0, 0].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]

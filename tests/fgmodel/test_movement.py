"""What is said of maps that move."""

import torch

from fgmodel.analysis.movement import movement_text


def one_hot_maps(*cells):
    maps = torch.zeros(1, len(cells), 2, 2)
    for step, cell in enumerate(cells):
        maps[0, step].view(-1)[cell] = 1
    return maps


def test_maps_that_stay_are_alike_and_overlap_whole():
    said = movement_text(one_hot_maps(0, 0), torch.zeros(1, 2, 0, 0))
    assert "falls to 1.00" in said
    assert "last step's map 1.000, 1.000" in said
    assert "0 of 2 maps are zero" in said
    assert "Spatial attention" not in said


def test_attention_that_jumps_one_cell_to_the_right_has_nothing_in_common_with_itself_and_moved_half_a_width():
    said = movement_text(one_hot_maps(0, 1), one_hot_maps(0, 1))
    assert "from a step to the next (Jensen-Shannon, bits) 1;" in said
    assert "centroid moves by 0.5 of" in said
    assert "last step's map -0.333, 1.000" in said  # centred (3,-1,-1,-1)/4 with (-1,3,-1,-1)/4: -4/12


def test_a_map_without_any_cell_is_counted_and_in_no_mean():
    maps = one_hot_maps(0, 0)
    maps[0, 0] = 0
    assert "1 of 2 maps are zero" in movement_text(maps, torch.zeros(1, 2, 0, 0))

import pytest

from fgmodel.config import DEFAULTS, TrialConfig, official, thesis
from fgmodel.errors import InputError, SettingError


def test_settings_come_back_as_the_configuration_they_were_taken_from():
    config = TrialConfig.from_settings({
        "loss.margin": 0.05,
        "model.time_steps": 4,
        "model.fusion_weight": 0.7,
        "optim.schedule": "milestones",
        "optim.milestones": (10, 20),
        "data.dataset": "finches",
        "data.finches_per_species": 12,
        "seed": 3,
    })
    assert TrialConfig.from_settings(config.settings()) == config


def test_both_presets_come_back_from_their_settings():
    for preset in (thesis(), official()):
        assert TrialConfig.from_settings(preset.settings()) == preset


def test_the_presets_differ_in_rows_1_2_4_6_and_7_of_the_table_and_nowhere_else():
    ours, theirs = thesis().settings(), official().settings()
    differing = {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}
    assert differing == {
        "model.attention": ("per_step", "shared"),      # row 1
        "loss.lambda_rank": (0.5, 0.0),                 # row 2
        "model.global_addon": (False, True),            # row 4
        "optim.lr_local": (0.01, 0.001),                # row 6
        "optim.schedule": ("step", "milestones"),       # row 7
    }


def test_the_thesis_values_are_the_defaults():
    assert DEFAULTS["loss.lambda_rank"] == 0.5
    assert DEFAULTS["loss.lambda_local"] == 1.0
    assert DEFAULTS["loss.margin"] == 0.5
    assert (DEFAULTS["optim.lr_global"], DEFAULTS["optim.lr_local"]) == (0.001, 0.01)
    assert (DEFAULTS["optim.step_epochs"], DEFAULTS["optim.decay"]) == (40, 0.1)
    assert (DEFAULTS["data.image_size"], DEFAULTS["data.patch_size"]) == (448, 224)


def test_a_list_is_taken_for_a_tuple_since_yaml_has_no_tuples():
    settings = {"optim.schedule": "milestones", "optim.milestones": [5, 9]}
    assert TrialConfig.from_settings(settings).optim.milestones == (5, 9)


@pytest.mark.parametrize(
    ("settings", "name", "said"),
    [
        pytest.param({"optim.lrr": 0.1}, "optim.lrr", "did you mean 'optim.lr_", id="misspelt"),
        pytest.param({"lambda_rank": 0.1}, "lambda_rank", "did you mean 'loss.lambda_rank'", id="no section"),
        pytest.param({"zebra": 1}, "zebra", "is not a setting", id="nothing near"),
        pytest.param({"loss.margin": -0.1}, "loss.margin", "-0.1", id="below its range"),
        pytest.param({"model.time_steps": 0}, "model.time_steps", "greater than or equal to 1", id="no time step"),
        pytest.param({"model.time_steps": 2.5}, "model.time_steps", "2.5", id="half a step"),
        pytest.param({"optim.lr_local": "1e-2"}, "optim.lr_local", "write 0.01", id="text for a number"),
        pytest.param({"optim.lr_local": float("nan")}, "optim.lr_local", "finite", id="not a number"),
        pytest.param({"model.attention": "both"}, "model.attention", "'per_step'", id="unknown choice"),
        pytest.param({"loss.detach_global": 1}, "loss.detach_global", "boolean", id="a number for a yes"),
        pytest.param({"seed": -1}, "seed", "-1", id="negative seed"),
        pytest.param({"model.attention": "sum", "model.time_steps": 5, "model.sum_steps": 7}, "model.sum_steps",
                     "'model.sum_steps': 7 is more than model.time_steps, 5", id="a sum of more steps than there are"),
        pytest.param({"model.local_stream": "both"}, "model.local_stream", "'none', 'trunk' or 'lstm'", id="unknown stream"),
        pytest.param({"data.evaluation_patches": "random", "data.evaluation_draws": 0}, "data.evaluation_draws",
                     "greater than or equal to 1", id="no draw"),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right(settings, name, said):
    with pytest.raises(SettingError) as error:
        TrialConfig.from_settings(settings)
    assert error.value.name == name
    assert said in str(error.value)
    assert "\n" not in str(error.value)


_FROZEN = {"model.freeze_backbones": True}


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        pytest.param(_FROZEN | {"data.augmentation": "flip"}, "data.augmentation", id="augmented features"),
        pytest.param(_FROZEN | {"optim.precision": "bf16"}, "optim.precision", id="precision of no trunk"),
        pytest.param(_FROZEN | {"model.global_addon": True}, "model.global_addon", id="add-on above stored features"),
        pytest.param({"data.folds": 3, "data.validation": 0.2}, "data.validation", id="a share beside folds"),
        pytest.param({"data.dataset": "finches", "data.root": "birds"}, "data.root", id="a folder for drawn birds"),
        pytest.param({"optim.schedule": "cosine", "optim.decay": 0.5}, "optim.decay", id="decay of a cosine"),
        pytest.param({"optim.schedule": "cosine", "optim.step_epochs": 5}, "optim.step_epochs", id="steps of a cosine"),
        pytest.param({"optim.milestones": (1,)}, "optim.milestones", id="milestones of a step schedule"),
        pytest.param({"data.evaluation_draws": 5}, "data.evaluation_draws", id="draws where all patches count"),
        pytest.param({"model.sum_steps": 3}, "model.sum_steps", id="a sum under attention"),
        pytest.param({"model.attention_heads": 4}, "model.attention_heads", id="heads without spatial attention"),
        *(pytest.param({"model.local_stream": "none", name: value}, name, id=f"{name} without a local stream")
          for name, value in {
              "loss.lambda_rank": 0.0, "loss.lambda_local": 0.5, "loss.margin": 0.1, "loss.detach_global": False,
              "loss.every_step": True, "optim.lr_local": 0.1, "model.fusion": "probs", "model.fusion_weight": 1.0,
              "model.drop_last_pool": False, "model.local_stride16": True, "model.hidden_size": 64,
              "model.time_steps": 4, "model.attention": "mean", "model.spatial_attention": "between_steps",
          }.items()),
        *(pytest.param({"model.local_stream": "trunk", name: value}, name, id=f"{name} without an LSTM")
          for name, value in {
              "loss.every_step": True, "model.hidden_size": 64, "model.time_steps": 4, "model.attention": "last",
              "model.spatial_attention": "between_layers",
          }.items()),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(settings, name):
    with pytest.raises(SettingError, match="would be ignored") as error:
        TrialConfig.from_settings(settings)
    assert error.value.name == name


@pytest.mark.parametrize("settings", [
    pytest.param({"model.local_stream": "none", "data.patches": "peaks", "model.local_backbone": "resnet34"},
                 id="boxes are found all the same, by that trunk: the rows of a table share them"),
    pytest.param({"model.local_stream": "trunk", "model.local_stride16": True, "optim.lr_local": 0.1}, id="a trunk is trained"),
    pytest.param({"model.attention": "sum", "model.sum_steps": 10}, id="the sum of all steps"),
    pytest.param({"model.spatial_attention": "between_layers", "model.attention_heads": 4, "model.local_backbone": "resnet34",
                  "model.local_stride16": True}, id="chapter 7"),
])
def test_what_a_variant_uses_may_be_set(settings):
    config = TrialConfig.from_settings(settings)
    assert TrialConfig.from_settings(config.settings()) == config


def test_a_wrong_setting_is_an_input_error_like_every_mistake_of_a_user():
    assert issubclass(SettingError, InputError)

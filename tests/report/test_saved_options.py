from __future__ import annotations

from pathlib import Path

from ktdn_plugin.curves.saved_options import saved_sets


def test_of_a_log_before_the_options_file(project) -> None:
    folder = project.results()
    other = {**project.dataset, "dataroot_gt": "elsewhere"}
    (folder / "old.yml").write_text(f"datasets: {{test: {other}}}")
    (saved,) = saved_sets(folder)
    assert saved.name == "pairs"
    assert saved.options["split"] == "tiny-val"
    assert saved.options["dataroot_gt"] == str(project.root / "val" / "clear")
    assert saved.options["dataroot_lq"] == str(project.root / "val" / "hazy")


def test_of_an_options_file_and_from_where_the_project_has_moved_to(project) -> None:
    (saved,) = saved_sets(project.training())
    assert saved.options["dataroot_gt"] == str(project.root / "val" / "clear")
    moved = project.root.parent / f"{project.root.name}-moved"
    folder = project.results()
    project.root.rename(moved)
    (saved,) = saved_sets(moved / folder.relative_to(project.root))
    assert saved.options["dataroot_gt"] == str(moved / "val" / "clear")


def test_of_a_config_that_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "work_dirs" / "run"
    (folder / "s" / "vis_data").mkdir(parents=True)
    text = (
        "open('ran', 'w')\n"
        "val_dataloader = dict(dataset=dict(type='ktdn_plugin.PairedHazeDataset', "
        "dataroot_gt='v/c', haze=print('ran')))\n"
        "test_dataloader = dict(dataset=dict(type='ktdn_plugin.PairedHazeDataset', "
        "dataroot_gt='v/c', haze=None))\n"
        "other = lambda: 1\n"
    )
    (folder / "s" / "vis_data" / "config.py").write_text(text)
    (saved,) = saved_sets(folder)
    assert saved.options == {
        "type": "ktdn_plugin.PairedHazeDataset",
        "dataroot_gt": "v/c",
        "haze": None,
    }
    assert not Path("ran").exists()


def test_of_nothing_that_can_be_read(tmp_path: Path) -> None:
    assert saved_sets(tmp_path) == []
    (tmp_path / "a.yml").write_text("{")
    (tmp_path / "b.py").write_text("a = (")
    (tmp_path / "train_x.log").write_text("nothing\n\n")
    assert saved_sets(tmp_path) == []

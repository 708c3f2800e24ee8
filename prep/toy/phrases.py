"""What is said where toy speech is only heard: random phrases of everyday words, rich in all sounds of English."""

from __future__ import annotations

import numpy as np

_WORDS = """
a able about above account across act add afraid after afternoon again age ago air all allow almost alone
along already also always am among an and angle animal another answer any apple are area arm around arrive
art as ask at autumn aunt away baby back bad bag ball band bank bar base basket bath be beach bean bear beat
beautiful because bed been beer before began begin behind believe bell below beside best better between big
bill bird bit black blood blow blue board boat body bone book both bottle bottom bowl box boy branch bread
break breakfast breathe brick bridge bright bring brother brown brush build burn bus business busy but
butter buy by cake call calm came camp can cap car card care carry case castle cat catch caught cause chain
chair chalk chance change cheap check cheese chicken child choose church circle city class clean clear climb
clock close cloth cloud coast coat coffee coin cold collect colour come common cook cool copper corn corner
cost cotton could count country course cover cow crack cross crowd cry cup current cut damp dance danger
dark daughter day dead deaf dear deep desk did die dinner dish do doctor dog done door double doubt down
draw dream dress drink drive drop dry dust duty each ear early earn earth east easy eat edge egg eight
either elephant else empty end engine enough evening ever every example eye face fact fail fair fall family
far farm fast fat father fear feather feed feel few field fight fill find fine finger finish fire first fish
five fix flag flame flat flight floor flower fly fold follow food fool foot for force forest forget forgive
fork form forty found four fox free fresh friend from front fruit full funny future game garden gate gave
general get gift girl give glad glass go goat gold good got grass grave great green grey ground group grow
guess guide guitar had hair half hall ham hammer hand hang happen happy hard has hat hate have he head hear
heart heat heavy held help her here hide high hill him his history hit hold hole holiday home honey hope
horse hospital hot hotel hour house how hundred hungry hurry hurt husband I ice idea if ill in inside into
iron is island it jacket jam job join joke journey joy judge juice jump just keep kept key kick kind king
kitchen knee knew knife knock know ladder lady lake lamp land language large last late laugh law lay lazy
lead leaf learn least leather leave left leg lemon less letter level library lie life lift light like line
lion lip list listen little live long look lose lost lot loud love low luck lunch machine made magic main
make man many map march mark market married master match matter may me meal mean measure meat meet melon
member memory men metal middle might mile milk mind minute mirror miss mix modern moment money monkey month
moon more morning most mother mountain mouse mouth move much mud music must my nail name narrow nature near
neck need needle neighbour never new news next nice night nine no noise none north nose not note nothing now
number nurse ocean of off offer office often oil old on once one onion only open or orange order other our
out oven over own page paint pair paper parent park part party pass past path pay peace pear pen pencil
people pepper perfect perhaps person photo picture piece pig pink pipe place plain plan plane plant plate
play please plenty pocket point police polite poor possible post pot potato pound power press pretty price
prison prize problem promise proud public pull pump purple push put quarter queen question quick quiet quite
rabbit radio rain raise ran rather reach read ready real red remember rest rice rich ride right ring rise
river road rock roof room root rope rose rough round row rub rule run sad safe said sail salt same sand saw
say school science scissors sea seat second secret see seed seem sell send serious serve seven several shade
shadow shake shall shame shape share sharp she sheep shelf shell shine ship shirt shoe shop short should
shoulder shout show shut sick side sign silver simple since sing sister sit six size skin skirt sky sleep
slip slow small smell smile smoke smooth snake snow so soap soft soil soldier some son song soon sort sound
soup south space speak special spell spend spoon sport spot spring square stage stairs stamp stand star
start station stay steal steam steel step stick still stone stop store storm story straight strange street
strong student study such sudden sugar suit summer sun support sure surprise sweet swim table tail take talk
tall taste taught taxi tea teach team tell ten than thank that the theatre their them then there these they
thick thief thin thing think third this those though thought thousand thread three through throw thumb
thunder ticket tidy tie tight till time tin tiny tired to toast today together told tomorrow tongue tonight
too tooth top total touch toward towel tower town toy train travel tree trip trouble true trust try turn
twelve twenty twice two type ugly uncle under understand until up upon us use useful usual valley value
vegetable very view village visit voice wait walk wall want war warm was wash watch water wave way we weak
wear weather week weigh welcome well went were west wet what wheel when where which while white who whole
why wide wife wild will win wind window wine wing winter wise wish with without woman wonder wood wool word
work world worry would write wrong yard year yellow yes yesterday yet you young your zebra zero zoo
"""
#: Common words.
WORDS = tuple(_WORDS.split())


def phrases(rng: np.random.Generator, count: int) -> list[str]:
    """Draw phrases of one to six words, as sentences: capital first, a full stop at the end."""
    drawn = []
    for length in rng.integers(1, 7, count).tolist():
        words = " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), length).tolist())
        drawn.append(f"{words[0].upper()}{words[1:]}.")
    return drawn
